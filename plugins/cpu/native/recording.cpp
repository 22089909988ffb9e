// See recording.h: how Python begins, ends, replays and forgets a recording.
#include "recording.h"

thread_local Recording* recording = nullptr;

#define EXPORT extern "C" __attribute__((visibility("default")))

// From now on this thread's calls are recorded, of a step of `tokens` tokens, 1 at least.
EXPORT void jackfield_record(int64_t tokens) { recording = new Recording{tokens, {}, {}}; }

// Calls are made again. Returns what was recorded.
EXPORT Recording* jackfield_recorded() {
    Recording* whole = recording;
    recording = nullptr;
    return whole;
}
EXPORT const char* jackfield_recording_refusal(const Recording* recorded) { return recorded->refusal.c_str(); }
EXPORT void jackfield_replay(const Recording* recorded, int64_t tokens) {
    for (const auto& call : recorded->calls) call(tokens);
}
EXPORT void jackfield_forget(Recording* recorded) { delete recorded; }
