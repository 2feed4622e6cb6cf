"""What is proved of each table, and by which test: the README's page of proofs is generated from this.

A claim that names no test that is collected fails the build (tests/test_pages.py), so the page cannot say more than the
tests do; a table without a line here has only what holds for every table.
"""

from dataclasses import dataclass

from scalelab.parametrizations.everett import EVERETT
from scalelab.parametrizations.table import Family

EVERY = "every table"
PLAIN = (Family.ADAM, Family.SGD, Family.ADAFACTOR)
ALL = tuple(Family)
TRAINED = tuple(family for family in Family if family is not Family.KFAC)  # K-FAC has rules, no optimizer here


@dataclass(frozen=True, kw_only=True)
class Proof:
    """A claim, the optimizer families it is about, and the tests that hold it (`file::function`).

    `slow` says that these take minutes and run with `make slow`.
    """

    claim: str
    families: tuple[Family, ...]
    tests: tuple[str, ...]
    slow: bool = False


def _held(claim: str, families: tuple[Family, ...], *tests: str) -> Proof:
    return Proof(claim=claim, families=families, tests=tests)


def _published(families: tuple[Family, ...], what: str, *tests: str) -> Proof:
    paths = tuple(f"tests/golden/test_published_values.py::{test}" for test in tests)
    return Proof(claim=f"resolved values: {what}", families=families, tests=paths)


def _checked(claim: str, families: tuple[Family, ...], *tests: str, slow: bool = False) -> Proof:
    paths = tuple(f"tests/probe/{test}" for test in tests)
    return Proof(claim=f"coordinate check: {claim}", families=families, tests=paths, slow=slow)


SYMMETRIC = "tests/test_compare.py::test_forms_of_one_parametrization_are_equal"
TRAJECTORY = _held(
    "Tables 3, 8 and 9 have one trajectory",
    (Family.ADAM, Family.SGD),
    "tests/golden/test_mup_package.py::test_tables_3_8_and_9_have_one_trajectory",
    SYMMETRIC,
)
BLOCKS = _held(
    "one measured step of all blocks moves the stream alike at every depth; eps falls like what it is added to",
    ALL,
    "tests/golden/test_one_step.py::test_a_step_of_all_blocks_moves_the_stream_alike_at_every_depth",
    "tests/golden/test_one_step.py::test_eps_in_the_blocks_moves_with_depth_like_what_it_is_added_to",
)

SLOPES = _held(
    "gradients of a transformer fall in width like its eps, but for two gains",
    (Family.ADAM,),
    "tests/golden/test_eps_slopes.py::test_in_width",
    "tests/golden/test_eps_slopes.py::test_gains_that_no_table_has_right",
)
SLOPES_IN_DEPTH = _held(
    "gradients of a transformer fall in depth like its eps",
    (Family.ADAM,),
    "tests/golden/test_eps_slopes.py::test_in_depth",
)
COMPLETED = "tests/golden/test_completed_p.py::"
MUON = _held(
    "rate and decay of every matrix are those of torch.optim.Muon, at base and target",
    (Family.MUON,),
    "tests/golden/test_second_order.py::test_muon_is_torchs_at_the_target_as_at_the_base",
    "tests/golden/test_second_order.py::test_muon_decays_with_the_unadjusted_rate",
)

MATRIX, COORDINATE = "test_matrix.py::", "test_coordinate.py::"
IN_WIDTH = MATRIX + "test_mup_passes_in_width_and_sp_fails"
OWN_RATES = MATRIX + "test_any_parametrization_passes_with_its_own_rates"
UNALIGNED = MATRIX + "test_rates_for_updates_that_do_not_align_are_too_high_at_first"
IN_DEPTH = _checked("passes in depth", (Family.ADAM,), COORDINATE + "test_what_transfers_in_depth_passes_in_depth")
NOT_IN_DEPTH = _checked("negative: fails in depth", (Family.ADAM,), COORDINATE + "test_width_alone_fails_in_depth")
STEPPED = (Family.ADAM, Family.SGD, Family.ADAFACTOR, Family.MUON, Family.SHAMPOO_HALF)

PROOFS: dict[str, tuple[Proof, ...]] = {
    EVERY: (
        _held(
            "shifted and folded forms have one trajectory (float64); factors compose over sizes",
            TRAINED,
            "tests/conformance/test_identities.py::test_shifted_forms_have_one_trajectory",
            "tests/conformance/test_identities.py::test_folding_keeps_the_trajectory",
            "tests/conformance/test_identities.py::test_factors_compose",
        ),
        _held(
            "at the base it is SP bit for bit (unit-scaled tables have no base); groups are a partition",
            TRAINED,
            "tests/conformance/test_tables.py::test_at_the_base_it_is_sp_bit_for_bit",
            "tests/conformance/test_tables.py::test_parameter_groups_are_a_partition",
        ),
        _checked(
            "passes where the table claims to transfer and nowhere else, but for the exceptions that the test names,"
            " with their reasons",
            TRAINED,
            MATRIX + "test_in_width",
            MATRIX + "test_in_depth",
            slow=True,
        ),
    ),
    "sp": (
        _held(
            "negative: one measured step grows or fades with width",
            ALL,
            "tests/golden/test_one_step.py::test_under_sp_some_step_grows_or_fades_with_width",
        ),
        _published((), "its sites", "test_sites_of_sp"),
        _checked("negative: fails in width", STEPPED, IN_WIDTH),
        NOT_IN_DEPTH,
    ),
    "mup": (
        _published((Family.ADAM, Family.SGD), "those of mup 1.0.0", "test_mup_adam", "test_mup_sgd"),
        TRAJECTORY,
        _held(
            "learning rates and eps are those derived from the stability constraints, and measured gradients fall"
            " as derived",
            (Family.ADAM, Family.SGD),
            "tests/golden/test_alignment.py::test_the_mup_table_of_this_package_is_the_derived_one",
            "tests/golden/test_alignment.py::test_measured_slopes",
        ),
        _held(
            "one measured step moves layer and function alike at every width; eps falls like what it is added to",
            ALL,
            "tests/golden/test_one_step.py::"
            "test_a_step_under_mup_moves_the_layer_and_the_function_alike_at_every_width",
            "tests/golden/test_one_step.py::test_eps_moves_like_what_it_is_added_to",
        ),
        SLOPES,
        _checked("passes in width", STEPPED, IN_WIDTH),
        _checked(
            "negative: over several batches updates grow like √width",
            (Family.SOAP,),
            MATRIX + "test_soap_grows_like_the_root_of_width_under_its_published_rule",
        ),
        NOT_IN_DEPTH,
    ),
    "mup_table_3": (TRAJECTORY, SLOPES),
    "mup_table_9": (TRAJECTORY,),
    "mup_package": (
        _held(
            "a trained MLP is bit-equal to mup 1.0.0's",
            (Family.ADAM, Family.SGD),
            "tests/golden/test_mup_package.py::test_mlp_trajectory_is_bit_equal_to_mup",
        ),
        _held(
            "a trained transformer is bit-equal to mup 1.0.0's, and so is every group's lr and weight decay",
            (Family.ADAM,),
            "tests/golden/test_mup_package.py::test_transformer_groups_and_trajectory_equal_mup",
        ),
    ),
    "depth_mup": (
        _published(
            (Family.ADAM,),
            "those of CompleteP at α = ½ but for eps",
            "test_depth_mup_is_completep_half_without_its_eps",
        ),
        IN_DEPTH,
    ),
    "completep": (
        _published((Family.ADAM,), "those of the paper's Table 1, α = 1", "test_completep_alpha_one"),
        BLOCKS,
        SLOPES_IN_DEPTH,
        IN_DEPTH,
    ),
    "completep_half": (
        _published((Family.ADAM,), "those of the paper's Table 1, α = ½", "test_completep_alpha_half"),
        BLOCKS,
        SLOPES_IN_DEPTH,
        IN_DEPTH,
    ),
    "mup_soap_dense": (
        _checked("passes in width", (Family.SOAP,), MATRIX + "test_soap_passes_at_a_rate_for_dense_updates"),
    ),
    "muon_match_rms": (
        MUON,
        _checked(
            "negative: updates grow like √width",
            (Family.MUON,),
            MATRIX + "test_muon_matched_to_adam_grows_like_the_root_of_width",
        ),
    ),
    "completed_p": (
        _held(
            "values of the paper's Table 1, α = 1, with its factors of batch and horizon",
            (Family.ADAM,),
            COMPLETED + "test_width_and_depth",
            COMPLETED + "test_batch_and_horizon",
        ),
    ),
    "completed_p_half": (_held("values of the paper's Table 1, α = ½", (Family.ADAM,), COMPLETED + "test_alpha_half"),),
    "megatron": (
        _held(
            "values of Megatron-LM's --use-mup",
            (Family.ADAM,),
            "tests/golden/test_published_frameworks.py::test_megatron",
        ),
    ),
    "muon_original": (MUON,),
    "u_mup": (
        _held(
            "every tensor's lr and weight decay are those of unit-scaling 0.3.5; its operations and taus too",
            (Family.ADAM,),
            "tests/golden/test_unit_scaling.py::test_learning_rates_and_weight_decay_equal_the_package",
            "tests/networks/test_unit_ops.py::test_values_and_gradients_are_those_of_the_package",
            "tests/networks/test_unit_residual.py::test_taus_are_those_of_the_package",
        ),
        _checked(
            "in width the embedding's change falls like 1/√width, by design, and all else stays; passes in depth",
            (Family.ADAM,),
            MATRIX + "test_u_mup_slows_the_embedding_by_design_and_nothing_else",
            MATRIX + "test_depth_tables_pass_in_depth",
        ),
    ),
    **{
        name: (
            _held(
                "exponents are the published ones, found again by search over the printed constraints",
                PLAIN,
                "tests/golden/test_alignment.py::test_the_tables_have_the_published_learning_rates",
                "tests/golden/test_alignment.py::test_search_finds_the_same_and_nothing_else",
            ),
            *(
                (_checked("passes in width", (Family.ADAM,), OWN_RATES),)
                if name in ("sp_full", "ntk_full", "mean_field_full")
                else ()
            ),
            *((_checked("negative: too high at first", (Family.ADAM,), UNALIGNED),) if name.endswith("_none") else ()),
        )
        for name in EVERETT
    },
}
