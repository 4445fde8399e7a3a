import pytest

from unetpp.model.grid import Grid

TOPOLOGIES = ("unet++", "unet+", "unet_e", "unet")


def test_unetpp_of_depth_4_has_the_15_nodes_of_the_paper() -> None:
    assert len(Grid("unet++", 4).nodes()) == 15


@pytest.mark.parametrize(("depth", "nodes"), [(1, 3), (2, 6), (3, 10), (4, 15)])
def test_pruning_keeps_the_papers_number_of_nodes(depth: int, nodes: int) -> None:
    assert set(Grid("unet++", 4).needed((depth,))) == {(i, j) for i in range(5) for j in range(5) if i + j <= depth}
    assert len(Grid("unet++", 4).needed((depth,))) == nodes


def test_each_member_of_the_family_receives_its_own_skips() -> None:
    assert Grid("unet++", 4).skips((1, 3)) == ((1, 0), (1, 1), (1, 2))
    assert Grid("unet+", 4).skips((1, 3)) == ((1, 2),)
    assert Grid("unet_e", 4).skips((1, 3)) == ((1, 0),)
    assert Grid("unet", 4).skips((1, 3)) == ((1, 0),)


def test_a_unet_is_the_encoder_and_the_outermost_diagonal() -> None:
    assert set(Grid("unet", 3).nodes()) == {(0, 0), (1, 0), (2, 0), (3, 0), (2, 1), (1, 2), (0, 3)}
    assert Grid("unet", 3).head_depths(deep_supervision=True) == (3,)


def test_an_ensemble_member_needs_the_encoder_and_its_own_diagonal_only() -> None:
    assert set(Grid("unet_e", 4).needed((2,))) == {(0, 0), (1, 0), (2, 0), (1, 1), (0, 2)}


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("depth", [1, 2, 5])
def test_every_node_comes_after_all_that_it_receives(topology: str, depth: int) -> None:
    order = Grid(topology, depth).nodes()
    for place, node in enumerate(order):
        assert set(Grid(topology, depth).sources(node)) <= set(order[:place])
