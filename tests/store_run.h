// tests/store_run.h: what the tests of the expert store share: small models, and the logits of a
// prompt with its greedy continuation under given options.
#ifndef STORE_RUN_H
#define STORE_RUN_H

#include "engine/engine.h"
#include "engine/session.h"
#include "store/expert_store.h"
#include "test_fewer.h"

enum { STORE_PROMPT = TEST_FEWER ? 16 : 40, STORE_DECODE = TEST_FEWER ? 8 : 30 };

// Collects what is logged. Thread-safe.
typedef struct store_log {
    stk_log log;
    char text[1 << 16]; // every line at warning or error level, and info, with newlines
    uint32_t used;
    uint32_t errors, warnings;
    int busy; // spin lock
} store_log;
void store_log_open(store_log *log);
void store_log_clear(store_log *log);
bool store_log_says(store_log *log, const char *text);

// A folder of its own below the current one or $TMPDIR, which store_folder_remove empties.
const char *store_folder(void);
void store_folder_remove(void);
const char *store_path(const char *name); // in the folder; a static buffer, eight calls live

// A small synthetic model, of shape "tiny" or another one.
void store_write_tiny(const char *path, bool transposed, uint64_t seed);
void store_write_shape(const char *path, const char *shape, bool transposed, uint64_t seed);
// Copies `from` with gate, up and down experts converted (NULL: as they are), split in `files`.
// Returns the path to open, for a split the first file's.
const char *store_convert(const char *from, const char *name, const stk_type *gate,
                          const stk_type *up, const stk_type *down, uint32_t files);
void store_pack(const char *model_path, const char *sidecar_path);

// Opens with memory for most experts but not all of them; store_slots narrows it later.
stk_engine *store_open_limited(const stk_engine_options *options);
// slots of an engine: 0 the minimum.
void store_slots(stk_engine *engine, uint32_t percent);

// A store without an engine: `slots` slots, one worker, least recently used goes first.
typedef struct store_alone {
    stk_gguf *gguf;
    stk_model model;
    stk_team *team;
    stk_expert_store *store;
    store_log log;
} store_alone;
void store_alone_open(store_alone *alone, const char *model_path, const char *sidecar_path,
                      uint32_t slots);
void store_alone_close(store_alone *alone);
bool store_has(stk_expert_store *store, uint32_t layer, uint32_t expert); // changes nothing

typedef struct store_result {
    float *logits; // [rows][vocab], every row asked for them
    uint32_t rows, vocab;
} store_result;
// Prompt of `prompt` tokens in batches of `batch_rows`, then `decode` tokens. A forward that fails
// with STK_IO is tried again up to `retries` times; *failures counts them (NULL: none allowed).
store_result store_run(stk_session *session, uint32_t batch_rows, uint32_t prompt, uint32_t decode,
                       uint32_t *failures);
// Opens a session for batches of 64 in a context of 128.
stk_session *store_session(stk_engine *engine);
extern const stk_session_options store_session_options;
void store_assert_same(const store_result *a, const store_result *b, const char *what);
void store_result_free(store_result *result);
// What a run with everything resident says.
store_result store_reference(const char *model_path, uint32_t prompt, uint32_t decode);

#endif
