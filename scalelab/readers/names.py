"""The names that people give to what we read: for each of ours, theirs, in tiers of which an earlier one is better.

Names are compared without case and separators ("Model Size" is modelsize), single letters as written (D is tokens, d
may be anything). Two columns of one tier are a question, not a choice. A name stands under a convention only if it
says so: N and total_params do not.
"""

import re

UNSTATED_BATCH = "batch"  # a batch in sequences or in tokens: units.py finds out which, or leaves it out

KNOWN: dict[str, tuple[tuple[str, ...], ...]] = {
    # Labels: the first that is there will do, so every name is a tier.
    "run": (("runname",), ("runid",), ("expname",), ("experimentname",), ("name",), ("hyperid",), ("number",)),
    "parametrization": (("parameterization",),),
    "optimizer": (("optimizer",), ("optimizername",), ("optim",)),
    "data": (("dataset",), ("datasetname",), ("corpus",)),
    "width": (("width", "dmodel", "hiddensize", "hiddendim", "modeldim", "nembd", "embeddim", "embdim", "h"),),
    "depth": (
        ("depth", "nlayers", "nlayer", "numl", "numlayers", "numhiddenlayers", "layers", "nblocks", "numblocks"),
    ),
    "params_non_embedding": (
        ("paramsnonembedding", "nonembeddingparams", "nonembeddingparameters", "nonembedparams", "paramsnonemb",
         "paramsnoembed", "noembedparams", "nnoembed", "nnonembedding", "nnonemb", "nparamsnonembedding",
         "numnonembeddingparams", "numparamsnonembedding"),
    ),
    "params_total": (("paramswithembeddings", "totalparamswithembeddings", "paramsincludingembeddings", "nwithembed"),),
    "params_active": (
        ("paramsactive", "activeparams", "activeparameters", "paramsactiveprecise", "nactiveparams", "nactive",
         "numactiveparams", "activeparamcount"),
    ),
    "params": (
        ("N", "n", "params", "nparams", "numparams", "paramcount", "parameters", "nparameters", "numparameters",
         "parametercount", "modelsize", "totalparams", "totalparameters", "totalparametercount", "denseparams",
         "denseparametercount"),
    ),
    "tokens": (
        ("D", "tokens", "ntokens", "numtokens", "traintokens", "trainingtokens", "tokensseen", "totaltokens",
         "tokenstotal", "numtraintokens"),
    ),
    "unique_tokens": (("uniquetokens", "nuniquetokens", "numuniquetokens"),),
    "experts": (("experts", "nexperts", "numexperts"),),
    "batch_tokens": (("batchtokens", "tokensperbatch", "tokensperstep", "batchsizetokens", "batchsizeintokens"),),
    "batch_sequences": (("batchsequences", "sequencesperbatch", "sequencesperstep", "batchsizesequences"),),
    UNSTATED_BATCH: (("globalbatchsize", "gbs"), ("bs", "batchsize", "trainbatchsize", "batch")),
    "sequence_length": (("sequencelength", "seqlen", "seqlength", "contextlength", "contextsize", "blocksize"),),
    "steps": (
        ("steps", "nsteps", "numsteps", "trainsteps", "trainingsteps", "totalsteps", "maxsteps", "iterations", "ti"),
        ("step",),
    ),
    "lr": (
        ("peaklr", "maxlr", "lrpeak", "lrmax", "peaklearningrate", "maxlearningrate", "learningratepeak"),
        ("lr", "learningrate"),
    ),
    "weight_decay": (("wd", "weightdecay"),),
    "seed": (("seed",), ("randomseed",), ("modelseed",)),
    "cost_flops": (
        ("flops", "trainingflop", "trainingflops", "trainflops", "totalflops", "flopstotal", "costflops", "C",
         "compute", "trainingcompute"),
    ),
    "loss_nats": (
        ("lossnats",),
        ("loss", "valloss", "evalloss", "validloss", "validationloss", "testloss", "heldoutloss", "finalloss",
         "finalvalloss", "finalevalloss", "smoothloss", "smoothedloss", "crossentropy", "nll", "valnll"),
        ("trainloss", "trainingloss", "finaltrainloss", "smoothtrainloss"),
        ("value", "objective"),  # what Optuna calls what it minimizes
    ),
    "outcome": (("outcome",), ("state",), ("status",)),
}  # fmt: skip

LABELS = ("run", "parametrization", "optimizer", "data", "outcome", "seed")
# The same words in a config (what was asked) and in a summary (how it ended): for these the config is meant.
SETTINGS = (
    "width", "depth", "experts", UNSTATED_BATCH, "batch_tokens", "sequence_length", "lr", "weight_decay", "seed",
)  # fmt: skip

# How W&B and Optuna prefix what was asked for, and what came of it.
ASKED = re.compile(r"^(config[./]|params_(?!active|total|non|no|with|incl))", re.IGNORECASE)
ENDED = re.compile(r"^(summary[./]|user_attrs_|system_attrs_|values?_)", re.IGNORECASE)

# Of a run of our own in W&B: the whole spec and the whole trial, what is meant of which stands beside them.
OURS = "scalelab."

# Words in a column's name, the camelCase of which is split.
BITS = {"bits", "bpb", "bpt", "bpc", "bpw"}
NOT_A_LOSS = {"acc", "accuracy", "ppl", "perplexity"}
NOT_THE_LOSS = {  # beside the loss, but not it: bounds and auxiliary terms
    "upper", "lower", "std", "stderr", "se", "sem", "var", "min", "max", "delta", "aux", "z", "router", "balance",
    "scale", "scaling", "scaler", "weight", "fn", "type",
}  # fmt: skip


def words(name: str) -> set[str]:
    """The words of a column's name in lower case.

    >>> sorted(words("eval/smoothLoss_c4"))
    ['c4', 'eval', 'loss', 'smooth']
    """
    return set(re.findall(r"[a-z]+\d*|\d+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower()))


def spellings(name: str) -> list[tuple[str, int]]:
    """What a column's name may be compared as, each with 1 where it is a summary's and 0 elsewhere.

    >>> spellings("config.model.d_model")
    [('configmodeldmodel', 0), ('modeldmodel', 0), ('dmodel', 0)]
    >>> spellings("D"), spellings("summary.eval/loss")
    ([('D', 0)], [('summaryevalloss', 0), ('evalloss', 1)])
    """
    found = [(_plain(name), 0)]
    if ASKED.match(name):
        rest = ASKED.sub("", name)
        if rest.startswith(OURS):
            return found
        # A config nests by part of the program, which says nothing of the value; "train/loss" keeps its "train".
        found += [(spelling, 0) for spelling in dict.fromkeys((_plain(rest), _plain(rest.rsplit(".", 1)[-1])))]
    elif ENDED.match(name):
        rest = ENDED.sub("", name)
        found += [] if rest.startswith(OURS) else [(_plain(rest), 1)]
    return found


def _plain(name: str) -> str:
    # What begins with an underscore is the tracker's own: W&B's _step counts calls of log().
    return name if len(name) == 1 or name.startswith("_") else re.sub(r"[^a-z0-9]", "", name.lower())
