// Sidecars that are damaged, foreign, old, cut or half written: said once, and the numbers are
// right all the same. Packing that is interrupted goes on where it stopped.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "store_break.h"
#include "store_run.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/sidecar.h"
#include "store/sidecar_format.h"

enum { PROMPT = 10, DECODE = 6 };

static store_log logged;
static store_result want;
static stk_gguf *gguf;
static stk_model model;
static char tiny[256], good_path[256], bad_path[256], partial[300];
static uint8_t *good; // a sidecar without fault
static size_t good_bytes;

static uint8_t *slurp(const char *path, size_t *bytes)
{
    struct stat st;
    FILE *f = fopen(path, "rb");
    assert_true(f && fstat(fileno(f), &st) == 0);
    uint8_t *data = malloc((size_t)st.st_size + 1);
    *bytes = fread(data, 1, (size_t)st.st_size, f);
    assert_int_equal(*bytes, st.st_size);
    fclose(f);
    return data;
}

static void spill(const char *path, const void *data, size_t bytes)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, bytes, f), bytes);
    assert_int_equal(fclose(f), 0);
}

static stk_status try_open(void)
{
    stk_sidecar *sidecar = NULL;
    store_log_clear(&logged);
    stk_status status = stk_sidecar_open(bad_path, gguf, &model, false, &logged.log, &sidecar);
    assert_int_equal(sidecar != NULL, status == STK_OK);
    stk_sidecar_close(&sidecar);
    return status;
}

static stk_engine *open_engine(const char *sidecar, stk_io_kind io)
{
    const stk_engine_options options = {.model_path = tiny,
                                        .log = &logged.log,
                                        .thread_count = 2,
                                        .io = io,
                                        .guess_layers = 1,
                                        .sidecar_path = sidecar,
                                        .ignores_usage = true};
    store_log_open(&logged);
    return store_open_limited(&options);
}

static void check_engine(stk_engine *engine, const char *what)
{
    store_slots(engine, 0);
    stk_session *session = store_session(engine);
    store_result got = store_run(session, 5, PROMPT, DECODE, NULL);
    store_assert_same(&got, &want, what);
    store_result_free(&got);
    stk_session_close(&session);
}

// A sidecar that is refused is said so, and the GGUF serves.
static void falls_back(const char *says, const char *what)
{
    stk_engine *engine = open_engine(bad_path, STK_IO_AUTO);
    assert_true(store_log_says(&logged, says));
    assert_true(store_log_says(&logged, "is not used; experts come from the GGUF"));
    assert_int_equal(logged.errors, 0);
    check_engine(engine, what);
    stk_engine_close(&engine);
}

static void header_and_table_flips(void **state)
{
    (void)state;
    size_t table = model.layer_count * model.expert_count * sizeof(uint64_t);
    for (size_t bit = 0; bit < 8 * sizeof(stk_sidecar_header); bit++) {
        good[bit / 8] ^= (uint8_t)(1 << bit % 8);
        spill(bad_path, good, 2 * STK_SIDECAR_PAGE);
        stk_status status = try_open();
        assert_true(status == STK_FORMAT || status == STK_INVALID);
        assert_int_equal(logged.warnings, 1);
        assert_int_equal(logged.errors, 0);
        good[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    spill(bad_path, good, good_bytes);
    assert_int_equal(try_open(), STK_OK);
    for (size_t byte = 0; byte < table; byte += 5) {
        uint8_t *p = &good[STK_SIDECAR_PAGE + byte], before = *p;
        *p ^= (uint8_t)(1 << byte % 8);
        FILE *f = fopen(bad_path, "r+b");
        assert_true(f && fseek(f, STK_SIDECAR_PAGE, SEEK_SET) == 0);
        assert_int_equal(fwrite(good + STK_SIDECAR_PAGE, table, 1, f), 1);
        fclose(f);
        assert_int_equal(try_open(), STK_FORMAT);
        assert_true(store_log_says(&logged, "the checksums are damaged"));
        *p = before;
    }
    good[STK_SIDECAR_PAGE] ^= 1;
    spill(bad_path, good, good_bytes);
    good[STK_SIDECAR_PAGE] ^= 1;
    falls_back("the checksums are damaged", "a damaged table");
}

static void data_flips(void **state)
{
    (void)state;
    uint64_t data = ((stk_sidecar_header *)(void *)good)->data_at;
    uint64_t slot = stk_expert_store_slot_bytes(&model);
    // one bit somewhere in every other expert: first and last byte included
    for (uint32_t e = 0; e < model.layer_count * model.expert_count; e += 2)
        good[data + e * slot + (e * 7919u * 16u) % slot] ^= (uint8_t)(1 << e % 8);
    good[data + slot] ^= 1;
    good[data + 4 * slot - 1] ^= 0x80;
    spill(bad_path, good, good_bytes);
    free(good);
    good = slurp(good_path, &good_bytes);
    for (int io = STK_IO_URING; io <= STK_IO_THREADS; io++) {
        stk_engine *engine = open_engine(bad_path, (stk_io_kind)io);
        assert_true(store_log_says(&logged, "packed experts are used"));
        store_log_clear(&logged);
        check_engine(engine, "flipped data");
        assert_true(store_log_says(&logged, "does not match its checksum; using the GGUF"));
        uint32_t warnings = logged.warnings;
        assert_true(warnings > 10);
        check_engine(engine, "flipped data, again");
        assert_true(logged.warnings < 2 * warnings); // each is said once
        assert_int_equal(logged.errors, 0);
        stk_engine_close(&engine);
    }
}

// A damaged guess gives up its slot while somebody waits to take that slot away, and gets no other:
// all that are left hold guesses.
static void damaged_guess_without_slot(void **state)
{
    (void)state;
    uint64_t data = ((stk_sidecar_header *)(void *)good)->data_at;
    uint64_t slot = stk_expert_store_slot_bytes(&model);
    uint32_t least = stk_expert_store_slots_min(&model);
    const uint32_t experts[] = {0, 1, 2, 3, 4, 5, 6, 7};
    assert_true(least <= sizeof experts / sizeof *experts);
    uint8_t *damaged = &good[data + model.expert_count * slot]; // the first of the second layer
    *damaged ^= 1;
    spill(bad_path, good, good_bytes);
    *damaged ^= 1;
    for (uint32_t round = 0; round < 10; round++) {
        store_alone a;
        store_alone_open(&a, tiny, bad_path, least + 1);
        stk_expert_store_want(a.store, 0, experts, NULL, NULL, least, STK_WANT_SPECULATIVE);
        for (uint32_t there = 0; there < least;) {
            uint32_t events = stk_expert_store_events(a.store);
            there = 0;
            for (uint32_t i = 0; i < least; i++)
                there += store_has(a.store, 0, experts[i]);
            if (there < least)
                stk_expert_store_wait(a.store, events);
        }
        uint64_t before = stk_expert_store_get_stats(a.store).read_bytes;
        stk_expert_store_want(a.store, 1, experts, NULL, NULL, 1, STK_WANT_SPECULATIVE);
        while (stk_expert_store_get_stats(a.store).read_bytes == before)
            continue; // until it has a slot and is being read
        assert_int_equal(stk_expert_store_set_slots(a.store, least), least);
        store_alone_close(&a);
    }
}

static void wrong_files(void **state)
{
    (void)state;
    stk_sidecar_header h, good_header;
    memcpy(&good_header, good, sizeof h);

    h = good_header;
    h.version = 0;
    h.hash = stk_sidecar_header_hash(&h);
    memcpy(good, &h, sizeof h);
    spill(bad_path, good, good_bytes);
    falls_back("sidecar version 0, this stoker reads version", "another version");

    h = good_header;
    h.packed_count--;
    h.hash = stk_sidecar_header_hash(&h);
    memcpy(good, &h, sizeof h);
    spill(bad_path, good, good_bytes);
    falls_back("unfinished", "unfinished");

    memcpy(good, &good_header, sizeof h);
    spill(bad_path, good, good_bytes - 1);
    falls_back("truncated", "a truncated one");
    spill(bad_path, good, 40);
    falls_back("too short", "a stub");
    spill(bad_path, "", 0);
    falls_back("too short", "nothing");

    store_write_tiny(store_path("other.gguf"), false, 2);
    store_pack(store_path("other.gguf"), bad_path);
    falls_back("made from another model", "another model's");

    // the same model, touched since
    struct timespec later[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1700000000}};
    struct stat st;
    assert_int_equal(stat(tiny, &st), 0);
    spill(bad_path, good, good_bytes);
    assert_int_equal(utimensat(AT_FDCWD, tiny, later, 0), 0);
    falls_back("older copy", "of before");
    later[1] = st.st_mtim;
    assert_int_equal(utimensat(AT_FDCWD, tiny, later, 0), 0);
    assert_int_equal(try_open(), STK_OK);
}

static void unreadable_while_running(void **state)
{
    (void)state;
    for (int io = STK_IO_URING; io <= STK_IO_THREADS; io++) {
        stk_engine *engine;
        for (uint32_t nth = 1; nth < 100; nth = 3 * nth + 1) {
            engine = open_engine(good_path, (stk_io_kind)io);
            store_log_clear(&logged);
            store_break_reads(STORE_FAULT_ERROR, EIO, nth);
            check_engine(engine, "a read of the sidecar failed"); // no forward fails
            store_break_nothing();
            assert_int_equal(logged.errors, 1);
            assert_true(store_log_says(&logged, good_path));
            stk_engine_close(&engine); // the expert comes from the GGUF from now on
        }
        spill(bad_path, good, good_bytes);
        engine = open_engine(bad_path, (stk_io_kind)io);
        assert_int_equal(truncate(bad_path, 64 << 10), 0);
        check_engine(engine, "the sidecar was cut while running");
        assert_true(store_log_says(&logged, "the file has become shorter"));
        stk_engine_close(&engine);
    }
}

static stk_status pack(const atomic_int *cancel)
{
    return stk_sidecar_write(bad_path, gguf, &model, &logged.log, cancel);
}

static void check_packed(const char *what)
{
    size_t bytes;
    uint8_t *got = slurp(bad_path, &bytes);
    assert_int_equal(bytes, good_bytes);
    if (memcmp(got, good, bytes) != 0)
        fail_msg("%s: not what an uninterrupted pack writes", what);
    free(got);
    assert_int_equal(access(partial, F_OK), -1);
    assert_int_equal(unlink(bad_path), 0);
}

static void disk_full(void **state)
{
    (void)state;
    unlink(bad_path);
    uint64_t slot = stk_expert_store_slot_bytes(&model);
    const uint64_t rooms[] = {0,         slot / 2, 10 * slot, 64 * slot + 100, 64 * slot + 5200,
                              100 * slot};
    for (size_t i = 0; i < sizeof rooms / sizeof *rooms; i++) {
        store_log_open(&logged);
        atomic_store(&breaks.disk_bytes, (long long)rooms[i]);
        assert_int_equal(pack(NULL), STK_IO);
        assert_true(store_log_says(&logged, strerror(ENOSPC)));
        bool keeps = rooms[i] >= 64 * slot + 1024 + STK_SIDECAR_PAGE; // the table, the header
        assert_int_equal(store_log_says(&logged, "experts are kept, run the command again"), keeps);
        assert_int_equal(access(bad_path, F_OK), -1);
        assert_int_equal(access(partial, F_OK), keeps ? 0 : -1);
        store_break_nothing();
        store_log_clear(&logged);
        assert_int_equal(pack(NULL), STK_OK);
        assert_int_equal(store_log_says(&logged, "going on after 64 of 128"), keeps);
        check_packed("after a full disk");
    }
    // a disk that fills again and again: every run gets further
    for (int runs = 0;; runs++) {
        assert_true(runs < 12);
        atomic_store(&breaks.disk_bytes, (long long)(70 * slot));
        if (pack(NULL) == STK_OK)
            break;
    }
    store_break_nothing();
    check_packed("after several full disks");
}

static void sync_fails(void **state)
{
    (void)state;
    for (uint32_t syncs = 0; syncs < 4; syncs++) {
        store_log_open(&logged);
        atomic_store(&breaks.syncs_left, syncs);
        assert_int_equal(pack(NULL), STK_IO);
        assert_true(store_log_says(&logged, strerror(EIO)));
        assert_int_equal(access(bad_path, F_OK), -1);
        store_break_nothing();
        assert_int_equal(pack(NULL), STK_OK);
        check_packed("after a failed sync");
    }
}

// One writer at a time: another leaves its file alone.
static void two_writers(void **state)
{
    (void)state;
    unlink(bad_path);
    spill(partial, good, good_bytes / 2);
    int held = open(partial, O_RDONLY);
    assert_int_equal(flock(held, LOCK_EX), 0);
    store_log_open(&logged);
    assert_int_equal(pack(NULL), STK_BUSY);
    assert_true(store_log_says(&logged, "another stoker is writing it"));
    struct stat st;
    assert_int_equal(fstat(held, &st), 0);
    assert_int_equal(st.st_size, good_bytes / 2);
    close(held);
    assert_int_equal(pack(NULL), STK_OK);
    check_packed("after the other writer");
}

// What is no sidecar is not replaced by one.
static void other_files(void **state)
{
    (void)state;
    spill(bad_path, "GGUF", 4);
    store_log_open(&logged);
    assert_int_equal(pack(NULL), STK_INVALID);
    assert_true(store_log_says(&logged, "exists and is not a sidecar"));
    assert_int_equal(access(partial, F_OK), -1);
    assert_int_equal(truncate(bad_path, 0), 0);
    assert_int_equal(pack(NULL), STK_OK);
    assert_int_equal(pack(NULL), STK_OK); // over its own
    check_packed("over a sidecar");
}

typedef struct canceller {
    atomic_int flag;
    uint64_t at;
} canceller;

static void on_progress(void *user, const char *what, uint64_t done, uint64_t total)
{
    canceller *c = user;
    (void)total;
    if (done == c->at && strcmp(what, "packing experts") == 0)
        atomic_store(&c->flag, 1);
}

static void on_write(void *user, stk_log_level level, const char *line)
{
    (void)user, (void)level, (void)line;
}

static void cancelled(void **state)
{
    (void)state;
    for (uint64_t at = 1; at < 128; at += 42) {
        canceller c = {.at = at};
        const stk_log log = {on_write, on_progress, &c, STK_LOG_ERROR};
        assert_int_equal(stk_sidecar_write(bad_path, gguf, &model, &log, &c.flag), STK_CANCELLED);
        assert_int_equal(access(bad_path, F_OK), -1);
        char line[64];
        snprintf(line, sizeof line, "going on after %u of 128", (unsigned)at);
        store_log_open(&logged);
        assert_int_equal(pack(NULL), STK_OK);
        assert_true(store_log_says(&logged, line)); // nothing is packed twice
        check_packed("after a cancelled pack");
    }
}

// What an interrupted run left is checked, not trusted.
static void damaged_partial(void **state)
{
    (void)state;
    uint64_t data = ((stk_sidecar_header *)(void *)good)->data_at;
    uint64_t slot = stk_expert_store_slot_bytes(&model);
    spill(partial, good, good_bytes);
    assert_int_equal(truncate(partial, (long)good_bytes + 12345), 0); // longer than it should be
    FILE *f = fopen(partial, "r+b");
    assert_true(f && fseek(f, (long)(data + 20 * slot + 11), SEEK_SET) == 0);
    assert_int_equal(fputc(good[data + 20 * slot + 11] ^ 4, f) == EOF, 0);
    fclose(f);
    store_log_open(&logged);
    assert_int_equal(pack(NULL), STK_OK);
    assert_true(store_log_says(&logged, "going on after 20 of 128"));
    check_packed("from a damaged partial file");

    store_pack(store_path("other.gguf"), partial); // of another model
    store_log_clear(&logged);
    assert_int_equal(pack(NULL), STK_OK);
    assert_false(store_log_says(&logged, "going on"));
    check_packed("over another model's partial file");
}

static int set_up(void **state)
{
    (void)state;
    snprintf(tiny, sizeof tiny, "%s", store_path("tiny.gguf"));
    snprintf(good_path, sizeof good_path, "%s", store_path("good.packed"));
    snprintf(bad_path, sizeof bad_path, "%s", store_path("bad.packed"));
    snprintf(partial, sizeof partial, "%s.partial", bad_path);
    store_write_tiny(tiny, false, 1);
    store_pack(tiny, good_path);
    good = slurp(good_path, &good_bytes);
    store_log_open(&logged);
    want = store_reference(tiny, PROMPT, DECODE);
    return stk_gguf_open(tiny, NULL, &gguf) != STK_OK ||
           stk_model_load(gguf, NULL, &model) != STK_OK;
}

static int tear_down(void **state)
{
    (void)state;
    store_result_free(&want);
    free(good);
    stk_model_free(&model);
    stk_gguf_close(&gguf);
    store_folder_remove();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_and_table_flips),
        cmocka_unit_test(data_flips),
        cmocka_unit_test(damaged_guess_without_slot),
        cmocka_unit_test(wrong_files),
        cmocka_unit_test(unreadable_while_running),
        cmocka_unit_test(disk_full),
        cmocka_unit_test(sync_fails),
        cmocka_unit_test(two_writers),
        cmocka_unit_test(other_files),
        cmocka_unit_test(cancelled),
        cmocka_unit_test(damaged_partial),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
