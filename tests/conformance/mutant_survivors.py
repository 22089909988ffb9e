"""Why a mutant survives the kit though nothing is missing: what it computes is the same, or is not the kit's to ask."""

from __future__ import annotations

from mutation import Mutant

# (qualified function, part of the changed line, "before -> after" or "" for every change of that line): reason
LADDER = "another ladder, which holds every step too; its sizes are asked by tests/unit/platforms/test_ladders.py"
COST = "a dearer placement, and a whole one; what it costs is asked by tests/unit/platforms/test_static_buckets.py"
MISS = "plans that conform miss nothing; what becomes of a miss is asked by tests/unit/platforms/test_static_buckets.py"
REFUSAL = "which numbers make no ladder is asked by tests/unit/platforms/test_ladders.py"
COUNT = "what it counts and says is asked by tests/unit/platforms/test_strict_device.py"
SLOWER = "the short way gives up too early: slower, and right"
EXPLAINED: dict[tuple[str, str, str], str] = {
    ("FlatBlockAttention.plan", "max(tiles.row.size, 1)", ""): "one tile more or less that holds no query",
    ("FlatBlockAttention.run", "total == 0", ""): "only places without a query have no weights, and nobody reads them",
    ("FlatBlockAttention._softmax_sums", "a tile place without a query", ""): "nobody reads such a place",
    (
        "FlatBlockAttention._softmax_sums",
        "torch.where(written",
        "0 -> 1",
    ): "such a value has weight 0: any number will do",
    ("FlatSizes.of_bucket", "longest = bucket.query_len", ""): "tiles of another size: another speed, and right",
    ("FlatSizes.of_bucket", "blocks = min(blocks", "1 -> 0"): "room for an entry more",
    (
        "FlatSizes.of_bucket",
        "blocks = min(blocks",
        "1 -> 2",
    ): "room for an entry more, or no more than all that is there",
    ("FlatSizes.of_bucket", "spare = max", "0 -> 1"): "room for a tile more",
    ("_rotate", "rest.shape[-1]", ""): "nothing, put after what was rotated, adds nothing",
    ("TorchDequantLinear.apply", "_PANEL_NUMBERS", ""): "smaller panels: slower, and right",
    ("BucketTable.cheapest", "holds[0]", ""): COST,
    ("BucketTable.describe", "", ""): MISS,
    ("StaticBuckets._worth_splitting", "", ""): COST,
    ("StaticBuckets._is_cheaper", "", ""): COST,
    ("StaticBuckets.cost", "", ""): COST,
    ("_leading_ones", "", ""): COST,
    ("PhaseRule._queries", "limits.num_drafts", ""): COST,
    ("PhaseRule._padded", "count == 0", ""): COST,
    ("StaticBuckets.__init__", "decode = ", "bucket.phase == 'decode' -> bucket.phase != 'decode'"): COST,
    ("StaticBuckets._missed", "", ""): MISS,
    ("StaticBuckets._rounded", "", ""): MISS,
    ("_pow2", "", ""): MISS,
    ("Exponential.sizes", "", ""): LADDER,
    ("Linear.sizes", "", ""): LADDER,
    ("PowersOfTwo.sizes", "", ""): LADDER,
    ("PaddingAware.sizes", "", ""): LADDER,
    ("CudaSizes.sizes", "", ""): LADDER,
    ("_ascending", "", ""): LADDER,
    ("PaddingAware.__post_init__", "", ""): REFUSAL,
    ("Listed.__post_init__", "", ""): REFUSAL,
    ("StrictGraphRunner.__init__", "num_graph_breaks", ""): COUNT,
    ("StrictGraphRunner.run", "capture.replays", ""): COUNT,
    ("StrictGraphRunner._known", "", ""): COUNT,
    ("StrictGraphRunner._compile", "num_graph_breaks", ""): COUNT,
    ("StrictGraphRunner.num_captures", "", ""): COUNT,
    ("Sampler._draw", "random.min_p > 0", ""): "the logarithm of 0 is a floor that nothing lies under",
    ("_first_past", "last_positive", "0 -> 1"): "decides only where place 0 has all the mass, and is taken before",
    ("from_candidates", "count = min", ""): SLOWER,
    ("from_candidates", "closed =", ""): SLOWER,
    ("_lowest_with", "top_enough", "1 -> 0"): "after forty halvings both ends of the interval keep the same tokens",
    ("_each", "group_out > 1", ""): "dividing the rows by 1 changes none",
    ("BucketTable.__init__", "reshape(-1", "1 -> 2"): "numpy takes any negative size for the one to find",
    ("_empty", "-1, np.int32", ""): "a padded place of a tile sees key 0; nobody reads what it gives",
    ("Tiles.of", "oldest =", "0 -> 1"): "keys 0 and 1 are in one block",
}


def explanation(mutant: Mutant) -> str | None:
    """The reason, or None where a check is missing."""
    change = f"{mutant.before} -> {mutant.after}"
    for (function, part, known), reason in EXPLAINED.items():
        if function == mutant.function and part in mutant.source and known in ("", change):
            return reason
    return None
