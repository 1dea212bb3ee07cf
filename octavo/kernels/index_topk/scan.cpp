// Exact top-k of index scores on x86 processors, a tile of keys at a time.
//
// Scores are sum_i w_i relu(q_i . key). The keys of a tile become bytes once, for all queries. Products of bytes give
// scores with a bound on their error, so that only keys that may be among a query's k best are scored in FP32. The
// result is that of scoring every key in FP32: a key is passed over only where its score is surely too low.
//
// With rounded q', k' a score is off by at most sum_i |w_i| (|(q_i - q'_i) . k| + |q'_i . (k - k')|), and by the
// inequality of Cauchy and Schwarz (sum_i |w_i| |a_i . u|)^2 <= sum_i |w_i| * u^T (sum_i |w_i| a_i a_i^T) u. So the bound
// is slack_norm |k| + slack_error |k - k'|, each factor from the largest eigenvalue of such a matrix.
//
// Covers: queries of one sequence with ascending numbers of visible keys. Ties go to the lower key. Built as a plain
// shared library without any other; Python calls it through ctypes, which lets other threads run.

#include "scan_choose.h"

namespace {

#ifdef OCTAVO_X86

// Every key lo .. hi - 1 scored in FP32.
void score_all(const Call& call, int64_t lo, int64_t hi, std::vector<Query>& states) {
  states.resize(call.S);
  for (int s = 0; s < call.S; ++s) {
    const float *q = call.q + size_t(s) * call.I * call.J, *w = call.w + size_t(s) * call.I;
    Query& state = states[s];
    for (int64_t e = lo; e < std::min<int64_t>(hi, call.seen[s]); ++e) {
      const float score = score_of(q, w, call.keys + e * call.J, call.I, call.J);
      if (score > state.level) {
        state.held.push_back({score, int32_t(e)});
        if (int(state.held.size()) >= kHeld * call.k) keep_best(state, call.k);
      }
    }
    if (int(state.held.size()) > call.k) keep_best(state, call.k);
  }
}

// A loop's items on several threads (`octavo_step_run` in octavo/kernels/step), null: one after the other.
using Run = void (*)(int threads, int items, void (*item)(void*, int), void* context);

template <class Work>
void share(Run run, int threads, int items, const Work& work) {
  if (run) return run(threads, items, [](void* to, int i) { (*static_cast<const Work*>(to))(i); }, const_cast<Work*>(&work));
  for (int i = 0; i < items; ++i) work(i);
}

constexpr int64_t kPart = 2048;  // keys of an item in FP32; as bytes they are kTile
constexpr int kBlocks = 16;                        // blocks of an item

// Keys of one place that an item of a loop takes.
struct Part {
  const Place* place;
  int64_t lo, hi;
};

// The same by bytes: rough scores of all keys first, since what k keys of all surely beat rules out more than what k keys
// of a part do. `states[i]` get what query s holds of part i.
template <class Form>
void best_by_bytes(Run run, int threads, const Call& call, const std::vector<Part>& parts,
                   std::vector<std::vector<Query>>& states) {
  constexpr int L = Form::lanes;
  const int S = call.S, n = int(parts.size());
  const size_t room = size_t(n) * kTile;
  std::vector<Rounded> rounded(S);
  std::vector<Query> queries(S);
  for (int s = 0; s < S; ++s)
    round_query<Form>(call.q + size_t(s) * call.I * call.J, call.w + size_t(s) * call.I, call.I, call.J, rounded[s],
                      queries[s]);
  static thread_local std::vector<float> held_scores, held_tops;  // not made anew for every step
  held_scores.resize(std::max(held_scores.size(), S * room));
  held_tops.resize(std::max(held_tops.size(), S * room / kRows));
  float *scores = held_scores.data(), *tops = held_tops.data();
  std::vector<Tile> tiles(n);
  share(run, threads, n, [&](int i) {
    const Place& place = *parts[i].place;
    const int count = int(parts[i].hi - parts[i].lo);
    tiles[i] = tile_of({place.bytes, place.scale, place.norm, place.error}, parts[i].lo, count, call.J);
    for (int s = 0; s < S; ++s) {
      float *own = scores + s * room + size_t(i) * kTile, *top = tops + (s * room + size_t(i) * kTile) / kRows;
      std::fill(top, top + kTile / kRows, kNone);
      for (int g = 0; g < (count + L - 1) / L; ++g)
        rough(Form{}, rounded[s], tiles[i], g, call.I, call.J, own + size_t(g) * L, top + size_t(g / kRows) * L);
    }
  });
  const auto visible = [&](int i, int s) {
    return int(std::max<int64_t>(0, std::min(parts[i].hi, call.seen[s] - parts[i].place->base) - parts[i].lo));
  };
  std::vector<float> whole;
  for (int s = 0; s < S; ++s) {
    whole.clear();
    float slack = 0.f;
    for (int i = 0; i < n; ++i) {
      const float* top = tops + (s * room + size_t(i) * kTile) / kRows;
      whole.insert(whole.end(), top, top + visible(i, s) / (L * kRows) * L);  // maxima over visible keys alone
      slack = std::max(slack, queries[s].slack_norm * tiles[i].norm + queries[s].slack_error * tiles[i].error);
    }
    const float beaten = below_the_best(whole.data(), int(whole.size()), call.k);
    queries[s].level = std::isfinite(slack) ? beaten - slack : kNone;
  }
  share(run, threads, n, [&](int i) {
    static thread_local std::vector<int32_t> found;
    found.resize(kTile);
    states[i].resize(S);
    const Place& place = *parts[i].place;
    for (int s = 0; s < S; ++s) {
      const float *q = call.q + size_t(s) * call.I * call.J, *w = call.w + size_t(s) * call.I;
      const float slack = queries[s].slack_norm * tiles[i].norm + queries[s].slack_error * tiles[i].error;
      const float bar = std::isfinite(slack) ? queries[s].level - slack : kNone;
      const int some = list_above(scores + s * room + size_t(i) * kTile, visible(i, s), bar, found.data());
      Query& state = states[i][s];
      for (int f = 0; f < some; ++f) {
        const int64_t key = parts[i].lo + found[f];
        if (f + kAhead < some) fetch(place.keys + (parts[i].lo + found[f + kAhead]) * call.J, call.J);
        state.held.push_back({score_of(q, w, place.keys + key * call.J, call.I, call.J), int32_t(key)});
        if (int(state.held.size()) >= kHeld * call.k) keep_best(state, call.k);
      }
    }
  });
}

// The best k of each query among the keys of all places, ascending: found[s].
void best_of(Run run, int threads, int level, const Call& call, const Place* places, int count,
             std::vector<std::vector<Scored>>& found) {
  std::vector<Part> parts;
  const int64_t end = call.S ? call.seen[call.S - 1] : 0;
  bool bytes = true;
  for (int p = 0; p < count; ++p) bytes = bytes && places[p].bytes;
  for (int p = 0; p < count; ++p) {
    const int64_t keys = std::min(places[p].stop, end) - places[p].base, each = bytes ? kTile : kPart;
    for (int64_t lo = 0; lo < keys; lo += each) parts.push_back({places + p, lo, std::min(lo + each, keys)});
  }
  std::vector<std::vector<Query>> states(parts.size());
  if (bytes && level == 2) {
    best_by_bytes<Vnni>(run, threads, call, parts, states);
  } else if (bytes && level == 1) {
    best_by_bytes<Avx2>(run, threads, call, parts, states);
  } else {
    share(run, threads, int(parts.size()), [&](int i) {
      const Place& place = *parts[i].place;
      std::vector<int64_t> seen(call.seen, call.seen + call.S);
      for (int64_t& n : seen) n -= place.base;
      score_all({call.q, call.w, place.keys, seen.data(), call.S, call.I, call.J, call.k}, parts[i].lo, parts[i].hi,
                states[i]);
    });
  }
  found.assign(call.S, {});
  for (int s = 0; s < call.S; ++s) {
    std::vector<Scored>& best = found[s];
    for (size_t i = 0; i < parts.size(); ++i)
      for (const Scored& one : states[i][s].held) best.push_back({one.score, int32_t(one.entry + parts[i].place->base)});
    keep_and_sort(best, call.k);
  }
}

// Keys by number through places.
inline const float* key_of(const Place* places, int count, int64_t entry, int J) {
  int p = 0;
  while (p + 1 < count && places[p + 1].base <= entry) ++p;
  return places[p].keys + size_t(entry - places[p].base) * J;
}

// The best k of query s among its blocks' entries.
void best_of_blocks(Run run, int threads, const Call& call, int s, const Place* places, int count,
                    const std::vector<int64_t>& blocks, int size, std::vector<Scored>& best) {
  const float *q = call.q + size_t(s) * call.I * call.J, *w = call.w + size_t(s) * call.I;
  std::vector<Scored> all(blocks.size() * size);
  share(run, threads, int((blocks.size() + kBlocks - 1) / kBlocks), [&](int item) {
    for (size_t b = size_t(item) * kBlocks; b < std::min<size_t>(blocks.size(), size_t(item + 1) * kBlocks); ++b) {
      const int64_t next = b + 1 < blocks.size() ? blocks[b + 1] * size : call.seen[s];
      for (int64_t e = next; e < std::min(next + size, call.seen[s]); ++e)
        fetch(key_of(places, count, e, call.J), call.J);
      for (int i = 0; i < size; ++i) {
        const int64_t entry = blocks[b] * size + i;
        const bool there = entry < call.seen[s];
        all[b * size + i] = {there ? score_of(q, w, key_of(places, count, entry, call.J), call.I, call.J) : kNone,
                             there ? int32_t(entry) : -1};
      }
    }
  });
  best.clear();
  for (const Scored& one : all)
    if (one.entry >= 0) best.push_back(one);
  keep_and_sort(best, call.k);
}

#endif

}  // namespace

extern "C" {

// 2: AVX-512 with VNNI, 1: AVX2, 0: neither.
int octavo_scan_level() {
#ifdef OCTAVO_X86
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
    return 2;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 1;
#endif
  return 0;
}

// q [S, I, J], w [S, I], keys [C, J], seen [S] ascending, at most C; picks [S, k], filled with -1 by the caller.
void octavo_scan(int level, const float* q, const float* w, const float* keys, const int64_t* seen, int S, int I, int J,
                 int k, int64_t* picks) {
#ifdef OCTAVO_X86
  std::vector<Query> states;
  scan(level, Call{q, w, keys, seen, S, I, J, k}, nullptr, 0, S ? seen[S - 1] : 0, states);
  hand_over(states, 0, k, nullptr, picks);
#endif
}

// The keys lo .. hi - 1 of keys [C, J] as bytes for this level: bytes [C up to a multiple of 16, J], the rest [C].
void octavo_pack(int level, const float* keys, int64_t lo, int64_t hi, int J, uint8_t* bytes, float* scale, float* norm,
                 float* error) {
#ifdef OCTAVO_X86
  const Packed to{bytes, scale, norm, error};
  if (level == 2) pack<Vnni>(keys, lo, hi, J, to);
  if (level == 1) pack<Avx2>(keys, lo, hi, J, to);
#endif
}

// As octavo_scan, among the keys lo .. hi - 1 alone, which are entries base + lo and so on; scores [S, k] as well. What
// octavo_pack made of the keys is read first (lo a multiple of 16); with null bytes every key is scored in FP32.
void octavo_part(int level, const float* q, const float* w, const float* keys, uint8_t* bytes, float* scale, float* norm,
                 float* error, const int64_t* seen, int64_t lo, int64_t hi, int64_t base, int S, int I, int J, int k,
                 float* scores, int64_t* entries) {
#ifdef OCTAVO_X86
  const Call call{q, w, keys, seen, S, I, J, k};
  const Packed packed{bytes, scale, norm, error};
  std::vector<Query> states;
  if (bytes)
    scan(level, call, &packed, lo, hi, states);
  else
    score_all(call, lo, hi, states);
  hand_over(states, base, k, scores, entries);
#endif
}

// As octavo_scan, among the entries of blocks [S, count] alone: block b holds b * size .. b * size + size - 1, -1 none.
void octavo_listed(const float* q, const float* w, const float* keys, const int64_t* blocks, const int64_t* seen, int S,
                   int I, int J, int count, int size, int k, int64_t* picks) {
#ifdef OCTAVO_X86
  listed(Call{q, w, keys, seen, S, I, J, k}, blocks, count, size, picks);
#endif
}

// The picks of a handful of queries, which are the tokens first, first + 1, ..: the k best, ascending, of the entries that
// each sees, (token + 1) / ratio and at most `length` of them. With `best` > 0 only entries of blocks of `block` tokens
// are looked at: those of the `best` best blocks by their coarse keys, of the last complete block, and of the open one.
// Places hold all entries, coarse places a key for every complete block; picks [S, k] are -1 where fewer are visible.
void octavo_select(void* run, int threads, int level, const float* q, const float* w, int S, int I, int J, int64_t first,
                   int64_t ratio, int64_t length, int k, const void* places, int count, int64_t block, int best,
                   const void* coarse_places, int coarse_count, int64_t* picks) {
#ifdef OCTAVO_X86
  const Place *fine = static_cast<const Place*>(places), *coarse = static_cast<const Place*>(coarse_places);
  const Run on = reinterpret_cast<Run>(run);
  std::vector<int64_t> seen(S), complete(S);
  for (int s = 0; s < S; ++s) {
    seen[s] = std::min((first + s + 1) / ratio, length);
    complete[s] = block ? (first + s + 1) / block : 0;
  }
  const Call call{q, w, nullptr, seen.data(), S, I, J, k};
  std::vector<std::vector<Scored>> found;
  if (best) {
    best_of(on, threads, level, Call{q, w, nullptr, complete.data(), S, I, J, best}, coarse, coarse_count, found);
    for (int s = 0; s < S; ++s) {
      std::vector<int64_t> blocks;
      for (const Scored& one : found[s])
        if (one.entry != complete[s] - 1) blocks.push_back(one.entry);
      if (complete[s]) blocks.push_back(complete[s] - 1);
      blocks.push_back(complete[s]);
      best_of_blocks(on, threads, call, s, fine, count, blocks, int(block / ratio), found[s]);
    }
  } else {
    best_of(on, threads, level, call, fine, count, found);
  }
  for (int s = 0; s < S; ++s) {
    std::fill(picks + size_t(s) * k, picks + size_t(s + 1) * k, -1);
    for (size_t e = 0; e < found[s].size(); ++e) picks[size_t(s) * k + e] = found[s][e].entry;
  }
#endif
}

}  // extern "C"
