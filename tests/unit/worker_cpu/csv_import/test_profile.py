import json

from unit.worker_cpu.cpu_lane import CpuLane


def test_profile_describes_each_column(lane: CpuLane) -> None:
    result = lane.process("n,t\n1,a\n2,b\n2,\n7,b\n")
    number, text = result.columns
    assert (number.minimum, number.maximum, number.mean, number.nulls) == ("1", "7", "3", 0)
    assert [(top.value, top.count) for top in number.top_values] == [("2", 2)]
    assert (text.nulls, text.distinct, text.mean) == (1, 2, None)
    written = json.loads(lane.artifact("profile.json"))
    assert [column["name"] for column in written["columns"]] == ["n", "t"]
