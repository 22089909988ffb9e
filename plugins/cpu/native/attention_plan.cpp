// The work of a step: which tokens are written where, and how the products are cut so that all threads have their
// share.
#include "attention.h"

#include "pool.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace {

constexpr int64_t FEWEST_ROWS = 12;       // of a smaller item, where there are too few of the large ones
constexpr int64_t SHORTEST_PART = 256;    // keys
constexpr int64_t PARTS_A_THREAD = 8;     // an item that is more than this share of a thread's work is split
constexpr int64_t SHORTEST_COMMON = 128;  // keys

// Rows one after the other, of one new token each, whose first `keys` keys lie in the same blocks.
struct Run {
    int64_t first, rows, keys;  // `first` among the layout's
    int64_t item;               // of its first row
};

struct Lists {
    std::vector<Run> runs;
    std::vector<int32_t> run_of_item;  // -1: none
    std::vector<StepRow> rows;
    std::vector<StepWrite> writes;
    std::vector<StepItem> items;
    std::vector<StepGroup> groups;
    std::vector<int32_t> table;
    int64_t slots = 0, most_queries = 0;
};

// Keys are read once for all rows of an item: as long as eight rows' arithmetic.
int64_t cost(const StepItem& item, int64_t group) {
    return int64_t(item.stop - item.start) * (8 + item.queries * group);
}

// Keys that two rows have in the same blocks, and that both have behind them.
int64_t common_keys(const AttentionShape& shape, const AttentionLayout& layout, int64_t a, int64_t b) {
    const int64_t blocks = (std::min(layout.kv_len[a], layout.kv_len[b]) - 1) / shape.block_size;
    const int32_t *of_a = layout.block_table + a * layout.table_stride,
                  *of_b = layout.block_table + b * layout.table_stride;
    const int64_t same = std::mismatch(of_a, of_a + std::max<int64_t>(blocks, 0), of_b).first - of_a;
    return same * shape.block_size / STRETCH * STRETCH;
}

bool follows(const AttentionLayout& layout, int64_t row) {
    return layout.num_new[row] == 1 && layout.num_new[row - 1] == 1 &&
           layout.query_start[row] == layout.query_start[row - 1] + 1;
}

// A row joins those before it where that saves more keys than it costs: a run has the fewest that any two of it have.
void find_runs(const AttentionShape& shape, const AttentionLayout& layout, std::vector<Run>& runs) {
    if (shape.window) return;
    const int64_t most = std::max<int64_t>(2, attention_query_rows() / (shape.query_heads / shape.kv_heads));
    for (int64_t row = 0; row < layout.rows;) {
        Run run{row, 1, 0, -1};
        while (row + run.rows < layout.rows && run.rows < most && follows(layout, row + run.rows)) {
            const int64_t both = common_keys(shape, layout, row, row + run.rows),
                          keys = run.rows == 1 ? both : std::min(both, run.keys);
            if (keys < SHORTEST_COMMON || keys * run.rows <= run.keys * (run.rows - 1)) break;
            run.keys = keys, run.rows++;
        }
        if (run.rows > 1) runs.push_back(run);
        row += run.rows;
    }
}

int64_t queries_an_item(const AttentionShape& shape, const AttentionLayout& layout, int threads) {
    const int64_t group = shape.query_heads / shape.kv_heads;
    int64_t rows = attention_query_rows();
    for (; rows / 2 >= FEWEST_ROWS; rows /= 2) {
        const int64_t queries = std::max<int64_t>(1, rows / group);
        int64_t items = 0;
        for (int64_t row = 0; row < layout.rows; row++) items += (layout.num_new[row] + queries - 1) / queries;
        if (items * shape.kv_heads >= 4 * threads) break;
    }
    return std::max<int64_t>(1, rows / group);
}

void list(const AttentionShape& shape, const AttentionLayout& layout, int64_t queries, Lists& work) {
    size_t next = 0;  // run
    for (int64_t row = 0; row < layout.rows; row++) {
        while (next < work.runs.size() && row >= work.runs[next].first + work.runs[next].rows) next++;
        Run* run = next < work.runs.size() && row >= work.runs[next].first ? &work.runs[next] : nullptr;
        if (run && row == run->first) run->item = int64_t(work.items.size());
        const int64_t num_new = layout.num_new[row], kv_len = layout.kv_len[row], done = kv_len - num_new;
        if (num_new <= 0) continue;
        const int32_t index = int32_t(work.rows.size());
        const int64_t first = shape.window ? std::max<int64_t>(0, done - shape.window + 1) : 0;
        const int64_t first_block = first / shape.block_size,
                      blocks = (kv_len + shape.block_size - 1) / shape.block_size;
        const int32_t* entries = layout.block_table + row * layout.table_stride;
        work.rows.push_back({layout.query_start[row], int32_t(num_new), int32_t(kv_len),
                             int32_t(int64_t(work.table.size()) - first_block)});
        work.table.insert(work.table.end(), entries + first_block, entries + blocks);
        for (int64_t at = done; at < kv_len;) {
            const int64_t end = std::min(kv_len, (at / PANEL + 1) * PANEL);
            work.writes.push_back({index, int32_t(at), int32_t(end - at)});
            at = end;
        }
        for (int64_t query = 0; query < num_new; query += queries) {
            const int64_t count = std::min(queries, num_new - query);
            const int64_t seen = shape.window ? std::max<int64_t>(0, done + query - shape.window + 1) : 0;
            const int64_t start = run ? run->keys : seen / PANEL * PANEL;
            work.items.push_back(
                {index, int32_t(query), int32_t(count), int32_t(start), int32_t(done + query + count), -1, -1, 0});
            work.run_of_item.push_back(run ? int32_t(next) : -1);
            work.most_queries = std::max(work.most_queries, count);
        }
    }
}

// How many parts an item should have, at least 1.
int64_t parts_of(const AttentionShape& shape, const StepItem& item, int64_t share) {
    const int64_t wanted = (cost(item, shape.query_heads / shape.kv_heads) + share - 1) / share;
    return std::max<int64_t>(1, std::min<int64_t>(wanted, (item.stop - item.start) / SHORTEST_PART));
}

// The parts of `item`, which is of group `item.group`, in slots of their own; how many. The first takes the place of
// item `place`, if that is one.
int32_t cut(StepItem item, int64_t parts, int64_t place, Lists& work) {
    const int64_t stop = item.stop, keys = stop - item.start;
    const int64_t each = (keys + parts * STRETCH - 1) / (parts * STRETCH) * STRETCH;
    int32_t count = 0;
    for (int64_t start = item.start; start < stop; start += each, count++) {
        item.start = int32_t(start), item.stop = int32_t(std::min<int64_t>(stop, start + each));
        item.slot = int32_t(work.slots++);
        if (count == 0 && place >= 0) work.items[size_t(place)] = item;
        else work.items.push_back(item);
    }
    return count;
}

// Large items into parts; and those of runs into the keys that the run has in common, and each row's own.
void split(const AttentionShape& shape, int threads, Lists& work) {
    const int64_t group = shape.query_heads / shape.kv_heads;
    const auto common_item = [&](const Run& run) {
        const StepItem& first = work.items[size_t(run.item)];
        return StepItem{first.row, 0, int32_t(run.rows), 0, int32_t(run.keys), first.group, -1, 1};
    };
    int64_t total = 0;
    for (const StepItem& item : work.items) total += cost(item, group) * shape.kv_heads;
    for (const Run& run : work.runs) total += cost(common_item(run), group) * shape.kv_heads;
    const int64_t share = threads > 1 ? std::max<int64_t>(1, total / (threads * PARTS_A_THREAD)) : total + 1;
    const size_t whole = work.items.size();
    for (size_t i = 0; i < whole; i++) {
        StepItem item = work.items[i];
        const int64_t parts = parts_of(shape, item, share);
        if (parts < 2 && work.run_of_item[i] < 0) continue;
        item.group = int32_t(work.groups.size());
        const int32_t slot = int32_t(work.slots), count = cut(item, parts, int64_t(i), work);
        work.groups.push_back({count, slot, 0, 0, 0, 0});
    }
    for (const Run& run : work.runs) {
        const StepItem item = common_item(run);
        const int32_t slot = int32_t(work.slots), count = cut(item, parts_of(shape, item, share), -1, work);
        for (int32_t place = 0; place < item.queries; place++) {
            StepGroup& own = work.groups[size_t(item.group + place)];
            own.common_parts = count, own.common_slot = slot, own.common_rows = item.queries, own.place = place;
        }
        work.most_queries = std::max<int64_t>(work.most_queries, item.queries);
    }
}

template <class T>
const T* put(const std::vector<T>& from, int32_t*& to) {
    const T* at = (const T*)to;
    if (!from.empty()) memcpy(to, from.data(), from.size() * sizeof(T));
    to += from.size() * sizeof(T) / 4;
    return at;
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

// Fills `step`, whose arrays lie in `into`. Returns how many int32 they take: with more than `capacity` nothing is
// written and `step` is as it was. -1: a row is longer than its blocks.
EXPORT int64_t jackfield_attention_plan(const AttentionShape* shape, const AttentionLayout* layout, int32_t* into,
                                        int64_t capacity, AttentionStep* step) {
    for (int64_t row = 0; row < layout->rows; row++)
        if (layout->num_new[row] > 0 && layout->kv_len[row] > layout->table_width * shape->block_size) return -1;
    static thread_local Lists work;
    work.rows.clear(), work.writes.clear(), work.items.clear(), work.groups.clear(), work.table.clear();
    work.runs.clear(), work.run_of_item.clear();
    work.slots = work.most_queries = 0;
    const int threads = pool_threads();
    find_runs(*shape, *layout, work.runs);
    list(*shape, *layout, queries_an_item(*shape, *layout, threads), work);
    split(*shape, threads, work);
    if (threads > 1) {
        const int64_t group = shape->query_heads / shape->kv_heads;
        std::sort(work.items.begin(), work.items.end(),
                  [group](const StepItem& a, const StepItem& b) { return cost(a, group) > cost(b, group); });
    }
    const int64_t needed =
        int64_t(work.rows.size() * sizeof(StepRow) + work.writes.size() * sizeof(StepWrite) +
                work.items.size() * sizeof(StepItem) + work.groups.size() * sizeof(StepGroup) + work.table.size() * 4) /
        4;
    if (needed > capacity) return needed;
    step->rows = int64_t(work.rows.size()), step->writes = int64_t(work.writes.size());
    step->items = int64_t(work.items.size()), step->groups = int64_t(work.groups.size());
    step->slots = work.slots, step->most_queries = work.most_queries;
    step->row = put(work.rows, into), step->write = put(work.writes, into), step->item = put(work.items, into);
    step->group = put(work.groups, into), step->table = put(work.table, into);
    return needed;
}
