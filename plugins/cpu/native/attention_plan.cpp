// The work of a step: which tokens are written where, and how the products are cut so that all threads have their
// share.
#include "attention.h"

#include "pool.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace {

constexpr int64_t QUERY_ROWS = 96;   // queries times heads of an item: they share a stretch of keys in the first cache
constexpr int64_t FEWEST_ROWS = 12;  // of a smaller item, where there are too few of the large ones
constexpr int64_t SHORTEST_PART = 256;  // keys
constexpr int64_t PARTS_A_THREAD = 8;   // an item that is more than this share of a thread's work is split

struct Lists {
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

int64_t queries_an_item(const AttentionShape& shape, const AttentionLayout& layout, int threads) {
    const int64_t group = shape.query_heads / shape.kv_heads;
    int64_t rows = QUERY_ROWS;
    for (; rows / 2 >= FEWEST_ROWS; rows /= 2) {
        const int64_t queries = std::max<int64_t>(1, rows / group);
        int64_t items = 0;
        for (int64_t row = 0; row < layout.rows; row++) items += (layout.num_new[row] + queries - 1) / queries;
        if (items * shape.kv_heads >= 4 * threads) break;
    }
    return std::max<int64_t>(1, rows / group);
}

void list(const AttentionShape& shape, const AttentionLayout& layout, int64_t queries, Lists& work) {
    for (int64_t row = 0; row < layout.rows; row++) {
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
            work.items.push_back({index, int32_t(query), int32_t(count), int32_t(seen / PANEL * PANEL),
                                  int32_t(done + query + count), -1, -1});
            work.most_queries = std::max(work.most_queries, count);
        }
    }
}

void split(const AttentionShape& shape, int threads, Lists& work) {
    const int64_t group = shape.query_heads / shape.kv_heads;
    int64_t total = 0;
    for (const StepItem& item : work.items) total += cost(item, group) * shape.kv_heads;
    const int64_t share = std::max<int64_t>(1, total / (threads * PARTS_A_THREAD));
    const size_t whole = work.items.size();
    for (size_t i = 0; i < whole; i++) {
        const StepItem item = work.items[i];
        const int64_t keys = item.stop - item.start;
        const int64_t parts = std::min((cost(item, group) + share - 1) / share, keys / SHORTEST_PART);
        if (parts < 2) continue;
        const int64_t each = (keys + parts * STRETCH - 1) / (parts * STRETCH) * STRETCH;
        const int32_t number = int32_t(work.groups.size());
        int32_t count = 0;
        for (int64_t start = item.start; start < item.stop; start += each, count++) {
            StepItem part = item;
            part.start = int32_t(start), part.stop = int32_t(std::min<int64_t>(item.stop, start + each));
            part.group = number, part.slot = int32_t(work.slots + count);
            if (count == 0) work.items[i] = part;
            else work.items.push_back(part);
        }
        work.groups.push_back({count, int32_t(work.slots)});
        work.slots += count;
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
    work.slots = work.most_queries = 0;
    const int threads = pool_threads();
    list(*shape, *layout, queries_an_item(*shape, *layout, threads), work);
    if (threads > 1) {
        split(*shape, threads, work);
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
