"""What devices tell each other, read from programs; expected numbers are counted by hand."""

import pytest

from captioner_jax.planning.collectives import Collective, collectives

# As the compilers for TPUs and CPUs write; shortened.
PROGRAM = """\
HloModule jit_step, is_scheduled=true, num_partitions=8

%add.1.clone (x.5: f32[], y.3: f32[]) -> f32[] {
  ROOT %add.7 = f32[]{:T(128)} add(%x.5, %y.3)
}

%inner (p: bf16[4]) -> bf16[4] {
  ROOT %all-reduce.9 = bf16[4]{0:T(256)} all-reduce(%p), replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%add.1.clone
}

%all-reduce-scatter.18 (input: f32[32,4]) -> f32[8,4] {
  %all-reduce.188 = f32[32,4]{1,0:T(8,128)} all-reduce(%input), replica_groups={{0,1,2,3}}, to_apply=%add.1.clone
  ROOT %dynamic-slice.142 = f32[8,4]{1,0:T(8,128)} dynamic-slice(%all-reduce.188, %multiply.368, %constant.717)
}

%body.sunk (state: (s32[], f32[2,3])) -> (s32[], f32[2,3]) {
  %all-reduce.2 = f32[2,3]{1,0:T(8,128)S(1)} all-reduce(%x), channel_id=2, replica_groups=[2,4]<=[8], to_apply=%add
  %fusion.1 = bf16[4]{0} fusion(%y), kind=kLoop, calls=%inner
}

ENTRY %main.6_spmd (param.5: f32[2,3]) -> (f32[], f32[2,3]) {
  %all-reduce.7 = (f32[100]{0:T(512)}, /*index=1*/f32[2,50]{1,0:T(8,128)S(1)}) all-reduce(%a, %b), channel_id=1, \
replica_groups=mesh['axis_0'=4,'axis_1'=2] {'axis_0'}, use_global_device_ids=true, to_apply=%add.1.clone
  %get-tuple-element.1 = f32[100]{0:T(512)} get-tuple-element(%all-reduce.7), index=0
  %all-gather-start.1 = (bf16[16,8]{1,0}, bf16[128,8]{1,0}) all-gather-start(%c), dimensions={0}, replica_groups={}
  %all-gather-done.1 = bf16[128,8]{1,0} all-gather-done(%all-gather-start.1)
  %reduce-scatter.3 = f32[16,2]{1,0} reduce-scatter(%d), replica_groups={{0,1},{2,3},{4,5},{6,7}}, to_apply=%add
  %collective-permute-start.2 = (u8[40]{0}, u8[40]{0}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%e), \
source_target_pairs={{0,1},{1,0}}
  %while.31 = (s32[], f32[2,3]) while(%tuple.66), condition=%condition.2, body=%body.sunk
  ROOT %tuple.30 = (f32[], f32[2,3]) tuple(%all-reduce.2, %copy-done)
}
"""


def test_every_collective_is_found_with_its_size_and_group():
    found = collectives(PROGRAM, devices=8)
    assert set(found) == {
        Collective("all-reduce", 800, 4),
        Collective("all-gather", 128 * 8 * 2, 8),
        Collective("reduce-scatter", 16 * 2 * 4 * 2, 2),
        Collective("reduce-scatter", 32 * 4 * 4, 4),
        Collective("collective-permute", 40, 8),
        Collective("all-reduce", 24, 4),
        Collective("all-reduce", 8, 4),
    }
    assert [one.sent for one in found] == [1792, 1200, 384, 128, 40, 36, 12]


def test_what_a_loop_repeats_is_counted_so_often():
    counts = {(one.kind, one.bytes): one.count for one in collectives(PROGRAM, devices=8, rounds=5)}
    assert counts["all-reduce", 24] == counts["all-reduce", 8] == 5
    assert counts["all-reduce", 800] == counts["all-gather", 2048] == 1


def test_equal_ones_are_counted_together():
    twice = PROGRAM.replace(
        "  %while.31", "  %all-reduce.8 = f32[200] all-reduce(%f), replica_groups=[2,4]<=[8]\n  %while.31"
    )
    (found,) = [one for one in collectives(twice, devices=8) if one.bytes == 800]
    assert (found.count, found.sent) == (2, 2400)


@pytest.mark.parametrize(
    ("groups", "devices"),
    [
        ("{{0,1}}", 2),
        ("{}", 8),
        ("[4,2]<=[2,4]T(1,0)", 2),
        ("mesh['data'=2,'model'=4] {'model'}", 4),
        ("mesh['data'=2,'model'=4] {'data','model'}", 8),
        ("mesh['axis_0'=8] {'axis_0':(2)4}", 4),
    ],
)
def test_groups_in_all_their_forms(groups, devices):
    line = f"  %all-reduce = pred[7]{{0}} all-reduce(%x), replica_groups={groups}, to_apply=%or"
    assert collectives(f"ENTRY %main (x: pred[7]) -> pred[7] {{\n{line}\n}}", devices=8) == [
        Collective("all-reduce", 7, devices)
    ]
