"""``python -m examples.condition``: its parts, and the whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import greenpump as gp
from examples.condition import Warehouse
from greenpump.testing import virtual_clock, wait_all_parked

ROOT = Path(__file__).parents[2]


def test_a_delivery_waits_for_room_and_an_order_for_goods() -> None:
    warehouse = Warehouse(3)
    order = gp.spawn(warehouse.order, "nut", 2)
    wait_all_parked()
    warehouse.deliver("bolt", 2)
    delivery = gp.spawn(warehouse.deliver, "nut", 2)
    wait_all_parked()
    assert not order.done
    assert not delivery.done
    assert warehouse.order("bolt", 1)
    assert order.result()
    assert warehouse.stock == {"bolt": 1, "nut": 0}


@virtual_clock()
def test_an_order_gives_up_and_takes_nothing() -> None:
    warehouse = Warehouse(3)
    warehouse.deliver("nut", 1)
    assert not warehouse.order("nut", 2, patience=60)
    assert warehouse.stock == {"nut": 1}


def test_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.condition"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "nuts: [True, True, True]",
        "a washer: False",
        "left: 0",
    ]
    assert done.stderr == ""
