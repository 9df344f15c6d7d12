"""Kernels by group."""

import pytest

from benchmarks.gpu.kernel_times import NUM_LISTED, group_of, group_times_ms, longest


@pytest.mark.parametrize(
    ("kernel", "group"),
    [
        ("void cutlass::device_kernel<flash::FlashAttnFwdSm90<...>>", "attention"),
        ("flash::prepare_varlen_num_blocks_kernel<4, true>", "attention"),
        ("void flash::FlashAttnFwdCombine<...>", "attention"),
        ("void vllm::reshape_and_cache_flash_kernel<...>", "cache_write"),
        ("nvjet_sm90_tst_64x8_64x16_4x1_v_bz_TNT", "other"),
        ("_virtualise_kernel", "other"),
        ("Memcpy DtoD (Device -> Device)", "other"),
    ],
)
def test_groups(kernel, group):
    assert group_of(kernel) == group


def test_sums_and_the_longest():
    assert group_times_ms({"flash_a": 1.0, "flash_b": 2.0, "gemm": 4.0}) == {
        "cache_write": 0.0,
        "attention": 3.0,
        "other": 4.0,
    }
    listed = longest({f"kernel {index}": float(index) for index in range(NUM_LISTED + 5)})
    assert list(listed)[:2] == [f"kernel {NUM_LISTED + 4}", f"kernel {NUM_LISTED + 3}"]
    assert len(listed) == NUM_LISTED
