"""What a project's tests of its checkpoint look like.

Make the baseline's episodes once, with the checkpoint that is in use, and keep the file:

    octo-bench evaluate octo-tiny Lift-Panda --episodes 100 --out examples/baseline.parquet

Then `pytest examples` tests whatever `CHECKPOINT` names. Two cores take a minute or two.
"""

import pytest

CHECKPOINT = "octo-tiny"  # a folder, such as "checkpoints/new"


def test_it_has_not_regressed(octo_bench):
    octo_bench.assert_no_worse(CHECKPOINT, baseline="examples/baseline.parquet")


def test_it_lifts_more_often_than_not(octo_bench):
    octo_bench.assert_succeeds(CHECKPOINT, "Lift-Panda", at_least=0.5)


@pytest.mark.octo_bench(margin=0.05, alpha=0.01, budget=400)
def test_it_has_not_lost_five_points(octo_bench):
    octo_bench.assert_no_worse(CHECKPOINT, baseline="examples/baseline.parquet")
