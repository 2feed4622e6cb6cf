"""Claims: who is at work on what, on any node of a shared file system, with no lock that a network breaks.

A claim is a file NAME.N made with O_EXCL, which NFS has done atomically since version 3; flock(2) is not used, as
mounts with `nolock` keep it to one node. Its holder touches it every few seconds, and releases it by setting its time
to 0. It is taken over by making NAME.N+1: the newest number never falls, so one process alone can ever have made it
while it was the newest. The holder of N, should it still live, finds that it holds it no more (`Claim.held`) and keeps
its hands off. (Only what is finished loses its file, and whoever claims it then finds that it is finished.)

What is assumed of the file system: O_EXCL is atomic, a folder that is listed shows what was made before, and a file
that is opened shows its present times (NFS: close-to-open). The age of a claim is read by the clock that stamps files,
never by that of a node. Where nodes stamp files themselves (Lustre), a claim whose time is far from now must in
addition stand still while it is watched; one that moves tells how that node's clock differs. So clocks that differ cost
time and never give one run to two processes.

What is assumed of a holder: within a lease ($SCALELAB_LEASE_SECONDS, 120; each claim says its own) it touches its
claim, unless it is gone. One that was stopped for longer and wakes up may still write what it was writing at that
moment; what it writes is atomic, and of a run the same bits.
"""

from scalelab.claims.holder import LEASE_SECONDS, Holder
from scalelab.claims.leases import Claim, claim, claimed, is_free, last, looks_alive, read

__all__ = ["LEASE_SECONDS", "Claim", "Holder", "claim", "claimed", "is_free", "last", "looks_alive", "read"]
