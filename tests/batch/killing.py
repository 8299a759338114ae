"""Runs a reconstruction in forked processes that die at chosen moments; run by test_faults.

Usage: killing.py TABLE STORE MODEL|- SHARE ... Prints how many changes of files an uninterrupted
run into STORE makes. Then, for each share of these, a process is killed just before that change,
and the run is finished by another one, into STORE with the number of the change appended. A line
says which, how the first process ended, whether the store was there then, and how the second ended.
"""

import os
import signal
import sys
from pathlib import Path

from sklearn.pipeline import make_pipeline

import smlmkit
import smlmkit.batch.field
import smlmkit.reconstruct

CHANGES = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate")


def reconstruct(table, store, model):
    estimator = smlmkit.Renderer(10)
    if model == "-":
        estimator = make_pipeline(estimator, smlmkit.AnisotropicKDE(scale=2))
    else:
        estimator = smlmkit.load_model(model, device="cpu")
    smlmkit.reconstruct_field(estimator, table, store, tile=256)


def run_in_child(table, store, model, moment):
    """Give how the process ended, and how many changes it made."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        n_changes = 0

        def count(event, arguments):
            nonlocal n_changes
            if event not in CHANGES or Path(store).name not in str(arguments[0]):
                return
            n_changes += 1
            if n_changes == moment:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        reconstruct(table, store, model)
        os.write(writer, str(n_changes).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        n_changes = int(pipe.read() or 0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), n_changes


def main(table, store, model, *moments):
    # Compiled before the forks; networks must not have run when a process forks.
    example, _ = smlmkit.make_microtubules(field_size=500, random_state=0)
    smlmkit.AnisotropicKDE(scale=2).fit_transform(smlmkit.Renderer(10).fit_transform(example))
    status, n_changes = run_in_child(table, store, model, 0)
    assert status == 0, "the uninterrupted run failed"
    print(n_changes, flush=True)
    for share in moments:
        moment = 1 + int(float(share) * n_changes)
        status, _ = run_in_child(table, f"{store}{moment}", model, moment)
        is_whole = Path(f"{store}{moment}").exists()
        end, _ = run_in_child(table, f"{store}{moment}", model, 0)
        print(moment, status, is_whole, end, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
