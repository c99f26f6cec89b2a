"""Bytes to and from the large memory, read from a program; expected numbers are counted by hand."""

from captioner_jax.planning.hlo import arrays, loops
from captioner_jax.planning.traffic import moved

# As the TPU compiler writes; shortened. What a layout marks S(1) lies beside the cores.
PROGRAM = """\
HloModule jit_step, is_scheduled=true

%fused_computation.1 (p.0: f32[10]) -> f32[10] {
  %p.0 = f32[10]{0:T(128)} parameter(0)
  ROOT %exp.1 = f32[10]{0:T(128)} exponential(%p.0)
}

%body.2 (state: (s32[], f32[10])) -> (s32[], f32[10]) {
  %x.1 = f32[10]{0:T(128)} get-tuple-element(%state), index=1
  %fusion.7 = f32[10]{0:T(128)} fusion(%x.1), kind=kLoop, calls=%fused_computation.1
}

ENTRY %main.9 (a: f32[100,7], b: f32[10]) -> f32[10] {
  %a = f32[100,7]{1,0:T(8,128)} parameter(0)
  %slice-start = ((f32[100,7]{1,0:T(8,128)}), f32[5,7]{1,0:T(8,128)S(1)}, s32[]{:T(128)}) slice-start(%a)
  %slice-done = f32[5,7]{1,0:T(8,128)S(1)} slice-done(%slice-start)
  %fusion.3 = bf16[6]{0:T(256)} fusion(%slice-done), kind=kLoop, calls=%fused_computation.1
  %copy-start = (bf16[6]{0:T(256)S(1)}, bf16[6]{0:T(256)}, u32[]{:S(2)}) copy-start(%fusion.3)
  %copy-start.2 = (s32[]{:T(128)S(6)}, s32[]{:T(128)}, u32[]{:S(2)}) copy-start(%count)
  %while.1 = (s32[], f32[10]) while(%tuple.1), condition=%condition.1, body=%body.2
  ROOT %get-tuple-element.4 = f32[10]{0:T(128)} get-tuple-element(%while.1), index=1
}
"""


def test_what_goes_to_and_from_the_large_memory():
    """A slice of 35 numbers of 4 bytes is read, 6 of 2 bytes are written and read again; a loop reads and writes 10."""
    assert moved(PROGRAM) == 35 * 4 + 6 * 2 + 6 * 2 + (10 + 10) * 4
    assert moved(PROGRAM, rounds=3) == 35 * 4 + 6 * 2 + 6 * 2 + 3 * (10 + 10) * 4


def test_arrays_of_a_shape():
    shape = "(f32[2,3]{1,0:T(8,128)}, /*index=1*/s8[5]{0:T(128)S(1)}, pred[7], f8e4m3fn[4]{0}, token[], u32[]{:S(2)})"
    assert arrays(shape) == ([24, 5, 7, 4], [True, False, True, True])
    assert arrays("f32[]{:T(128)}") == ([4], [True])


def test_what_loops_repeat():
    assert loops(PROGRAM) == {"body.2", "fused_computation.1"}
    assert not loops(PROGRAM.replace("while(", "call("))


BRANCHES = """\
%branch.1 (p: f32[10]) -> f32[10] {
  %p = f32[10]{0} parameter(0)
  ROOT %exp.1 = f32[10]{0} exponential(%p)
}

%branch.2 (q: f32[10]) -> f32[10] {
  %q = f32[10]{0} parameter(0)
  ROOT %exp.2 = f32[10]{0} exponential(%q)
}

%body (x: f32[10]) -> f32[10] {
  %x = f32[10]{0} parameter(0)
  ROOT %conditional = f32[10]{0} conditional(%c, %x, %x), true_computation=%branch.1, false_computation=%branch.2
}

ENTRY %main (b: f32[10]) -> f32[10] {
  %b = f32[10]{0} parameter(0)
  %call = f32[10]{0} call(%b), to_apply=%branch.1
  ROOT %while = f32[10]{0} while(%call), condition=%condition, body=%body
}
"""


def test_both_branches_count_and_what_is_called():
    """Each reads and writes 10 numbers of 4 bytes; one is both called and in a loop."""
    assert loops(BRANCHES) == {"body", "branch.1", "branch.2"}
    assert moved(BRANCHES) == 2 * (10 + 10) * 4


def test_numbers_of_half_a_byte_take_one():
    assert arrays("s4[5]{0}") == ([5], [True])
