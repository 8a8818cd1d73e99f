import pytest
import torch

from xpsr_cli.models.pyramid_encoder import PyramidImageEncoder, ResidualInResidualDenseBlock


@pytest.mark.parametrize("channels", [(4, 6, 8, 10), (4, 8), (2, 4, 6)])
def test_sizes_follow_the_number_of_channels(channels: tuple[int, ...]) -> None:
    encoder = PyramidImageEncoder(5, channels)
    factor = 2 ** (len(channels) - 1)
    assert encoder.downscale == factor
    features, rgb = encoder(torch.rand(2, 3, 3 * factor, 5 * factor), with_heads=True)
    assert features.shape == (2, 5, 3, 5)
    assert [tuple(image.shape) for image in rgb] == [
        (2, 3, 3 * factor // 2**k, 5 * factor // 2**k) for k in range(1, len(channels))
    ]


def test_a_fresh_one_adds_nothing() -> None:
    features, _ = PyramidImageEncoder(5)(torch.rand(1, 3, 16, 16))
    assert features.abs().max() == 0


def test_heads_run_only_when_asked() -> None:
    encoder = PyramidImageEncoder(5, (4, 6))
    runs: list[int] = []
    encoder.rgb_heads[0].register_forward_hook(lambda *_: runs.append(1))
    assert encoder(torch.rand(1, 3, 8, 8))[1] == ()
    assert not runs
    assert len(encoder(torch.rand(1, 3, 8, 8), with_heads=True)[1]) == len(runs) == 1


def test_rrdb_is_a_small_correction_on_an_identity() -> None:
    block = ResidualInResidualDenseBlock(4)
    x = torch.randn(1, 4, 6, 6)
    assert 0 < (block(x) - x).abs().mean() < 0.2 * 1.5 * x.abs().mean()
    for dense in (block.rdb1, block.rdb2, block.rdb3):
        torch.nn.init.zeros_(dense.conv5.weight)
        torch.nn.init.zeros_(dense.conv5.bias)
    torch.testing.assert_close(block(x), 1.2 * x)  # three identities, added with weight 0.2


def test_rrdb_changes_the_features() -> None:
    torch.manual_seed(1)
    encoder = PyramidImageEncoder(5, (4, 6), use_rrdb=True)
    torch.nn.init.normal_(encoder.conv_out.weight)
    image = torch.rand(1, 3, 8, 8)
    before = encoder(image)[0]
    torch.nn.init.normal_(encoder.rrdb[1].rdb3.conv5.weight)
    assert (encoder(image)[0] - before).abs().max() > 1e-4
