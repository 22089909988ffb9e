"""Plans of static sizes: ladders of sizes, the buckets made of them, where a step is placed, and what that wasted."""
