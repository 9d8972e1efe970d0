"""What a segment is expected to take."""

from farm_shots import chain, sealed

from scail2_farm.farm.needs import Snapshot, work_of


def test_work_grows_with_the_network_so_that_a_pace_outlives_a_change_of_weights():
    """Half the network takes half the time: measured at the one, it is not suspiciously fast at the other."""
    shot = sealed("SH010", chain("ab"))
    whole, half, miniature = (
        work_of(shot, 0, weights=Snapshot(width=64, sizes={"dit.safetensors": size, "vae.safetensors": 10**9}))
        for size in (32 * 10**9, 16 * 10**9, 10**5)
    )
    assert whole == 2 * half
    assert half == 16_000 * miniature
    assert miniature == work_of(shot, 0, weights=None) == 64 * 32 * 5 * (4 + 4)
