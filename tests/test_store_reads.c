// Which reads the store asks for and what it makes of those that fail: the linker puts this file in
// the place of the I/O (store/io.h), so that every read is handed out and comes back by hand.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "store_run.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "store/io.h"
#include "store/store_impl.h"

enum { SLOTS = 8, LAYER = 1, READS_MAX = 64, PIECES = 3 };

// ---- the I/O ----

static struct {
    stk_io_source source;
    stk_read reads[READS_MAX]; // handed out and not back
    uint32_t count;
    uint32_t kicks;
} io;

stk_status __wrap_stk_io_open(const stk_io_options *options, stk_io **out);
stk_status __wrap_stk_io_open(const stk_io_options *options, stk_io **out)
{
    io.source = options->source;
    io.count = 0;
    *out = (stk_io *)&io;
    return STK_OK;
}

void __wrap_stk_io_close(stk_io **handle);
void __wrap_stk_io_close(stk_io **handle)
{
    *handle = NULL;
}

void __wrap_stk_io_kick(stk_io *handle);
void __wrap_stk_io_kick(stk_io *handle)
{
    (void)handle;
    io.kicks++;
}

// Takes what the store wants read now, at most `most`, and says how many there are.
static uint32_t take(uint32_t most)
{
    uint32_t count = 0;
    while (count < most && io.source.next(io.source.user, &io.reads[io.count])) {
        io.count++;
        count++;
        assert_true(io.count < READS_MAX);
    }
    return count;
}

// Reads number `at` comes back, with its bytes or an error.
static void come_back(uint32_t at, int error)
{
    const stk_read read = io.reads[at];
    if (error == 0)
        assert_true(pread(read.fd, read.to, read.bytes, (off_t)read.offset_bytes) >=
                    (ssize_t)read.bytes_needed);
    memmove(&io.reads[at], &io.reads[at + 1], (--io.count - at) * sizeof read);
    io.source.done(io.source.user, &read, error);
}

// The same, and what is to be done with the bytes is done.
static void finish(uint32_t at, int error)
{
    come_back(at, error);
    while (io.source.work(io.source.user))
        continue;
}

static void finish_all(void)
{
    while (io.count > 0)
        finish(0, 0);
}

// Reads whatever is asked for until nothing is.
static void settle(void)
{
    do
        finish_all();
    while (take(READS_MAX) > 0);
}

static void want(store_alone *f, uint32_t expert, stk_want kind)
{
    stk_expert_store_want(f->store, LAYER, &expert, NULL, NULL, 1, kind);
}

static void guess_from(store_alone *f, uint32_t first, uint32_t count)
{
    for (uint32_t e = first; e < first + count; e++)
        want(f, e, STK_WANT_SPECULATIVE);
}

static stk_status poll(store_alone *f, uint32_t expert)
{
    stk_expert unused;
    return stk_expert_store_poll(f->store, LAYER, expert, &unused);
}

static void release(store_alone *f, uint32_t expert)
{
    stk_expert_store_release(f->store, LAYER, expert);
}

// ---- which reads ----

// Of six loads at once guesses get three, and none while more than six reads are under way.
static void guesses_leave_room(void **state)
{
    (void)state;
    store_alone f;
    store_alone_open(&f, store_path("tiny.gguf"), NULL, SLOTS);
    guess_from(&f, 0, 6);
    assert_int_equal(take(READS_MAX), 3 * PIECES);
    want(&f, 9, STK_WANT_EXACT); // needs no guess to end
    assert_int_equal(take(READS_MAX), PIECES);
    finish_all();
    assert_int_equal(poll(&f, 9), STK_OK);
    release(&f, 9);
    store_alone_close(&f);

    // six reads are not more than six
    store_alone_open(&f, store_path("tiny.gguf"), NULL, SLOTS);
    want(&f, 9, STK_WANT_EXACT);
    assert_int_equal(take(READS_MAX), PIECES);
    guess_from(&f, 0, 1);
    assert_int_equal(take(READS_MAX), PIECES);
    want(&f, 1, STK_WANT_SPECULATIVE); // its router has not spoken since
    assert_int_equal(take(READS_MAX), PIECES);
    store_alone_close(&f);

    // Experts of several reads for each piece: fewer loads make as many reads.
    const stk_type *f32 = stk_type_by_name("F32");
    const char *wide = store_convert(store_path("small.gguf"), "wide", f32, f32, f32, 1);
    store_alone_open(&f, wide, NULL, SLOTS);
    want(&f, 7, STK_WANT_EXACT);
    uint32_t reads = take(READS_MAX);
    assert_true(reads > 4 && reads <= 6);
    guess_from(&f, 0, 3);
    assert_int_equal(take(READS_MAX), reads); // one of them
    finish_all();
    assert_int_equal(take(READS_MAX), 2 * reads); // both: the first leaves six or fewer under way
    settle();
    for (uint32_t e = 0; e < 3; e++)
        assert_int_equal(poll(&f, e), STK_OK);
    store_alone_close(&f);
}

// The expert whose slice a read begins.
static uint32_t expert_of(const store_alone *f, const stk_read *read)
{
    const stk_layer *l = &f->model.layers[LAYER];
    const stk_gguf_tensor *tensors[PIECES] = {l->gate_experts, l->up_experts, l->down_experts};
    for (int i = 0; i < PIECES; i++) {
        uint64_t from = tensors[i]->offset_bytes, bytes = tensors[i]->size_bytes;
        if (read->offset_bytes >= from && read->offset_bytes < from + bytes)
            return (uint32_t)((read->offset_bytes - from) / (bytes / f->model.expert_count));
    }
    fail_msg("a read of nothing in the layer");
    return 0;
}

// What somebody waits for comes first, then what the router chose, then guesses, whoever asked
// first; and what becomes urgent while it waits, with them.
static void urgent_reads_first(void **state)
{
    (void)state;
    static const uint32_t order[] = {4, 2, 3, 0, 1};
    store_alone f;
    store_alone_open(&f, store_path("tiny.gguf"), NULL, SLOTS);
    guess_from(&f, 0, 2);
    want(&f, 2, STK_WANT_EXACT);
    want(&f, 3, STK_WANT_EXACT);
    want(&f, 4, STK_WANT_EXACT);
    want(&f, 4, STK_WANT_DEMAND); // pins nothing more
    // The guesses were not chosen, and are forgotten; asked for anew they come last.
    guess_from(&f, 0, 2);
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(take(PIECES), PIECES);
        for (uint32_t k = 0; k < PIECES; k++)
            assert_int_equal(expert_of(&f, &io.reads[k]), order[i]);
        finish_all();
        assert_int_equal(poll(&f, order[i]), STK_OK);
    }
    stk_expert_store_stats stats = stk_expert_store_get_stats(f.store);
    assert_int_equal(stats.wanted, 3);
    assert_int_equal(stats.speculative, 2);
    for (uint32_t e = 2; e <= 4; e++)
        release(&f, e);
    want(&f, 0, STK_WANT_EXACT); // a guess that was right
    stats = stk_expert_store_get_stats(f.store);
    assert_int_equal(stats.wanted, 4);
    assert_int_equal(stats.hits, 0);
    assert_int_equal(stats.speculative_used, 1);
    assert_int_equal(stats.reads, 5);
    release(&f, 0);
    store_alone_close(&f);
}

// When as few slots as possible are in use, no more experts stay than those hold, unless a pin was
// left behind.
static void check_no_pins(store_alone *f)
{
    uint32_t slots = stk_expert_store_set_slots(f->store, 0), kept = 0;
    for (uint32_t e = 0; e < f->model.expert_count; e++)
        kept += poll(f, e) == STK_OK;
    assert_int_equal(kept, slots);
}

// One release undoes a want, and whatever wants for the same expert came on top of it as DEMAND.
static void pins(void **state)
{
    (void)state;
    static const stk_want kinds[] = {STK_WANT_DEMAND, STK_WANT_EXACT};
    store_alone f;
    for (int first = 0; first < 2; first++) {
        store_alone_open(&f, store_path("tiny.gguf"), NULL, SLOTS);
        for (uint32_t e = 0; e < SLOTS; e++) {
            want(&f, e, kinds[first]);
            want(&f, e, STK_WANT_DEMAND); // while it is queued, and again when it is there
            settle();
            want(&f, e, STK_WANT_DEMAND);
            assert_int_equal(poll(&f, e), STK_OK);
        }
        assert_int_equal(stk_expert_store_get_stats(f.store).wanted, SLOTS);
        want(&f, SLOTS, STK_WANT_DEMAND); // every slot is held
        assert_int_equal(take(READS_MAX), 0);
        release(&f, 3);
        settle();
        assert_int_equal(poll(&f, SLOTS), STK_OK);
        assert_int_equal(poll(&f, 3), STK_PENDING);
        assert_int_equal(stk_expert_store_get_stats(f.store).evictions, 1);
        for (uint32_t e = 0; e <= SLOTS; e++)
            if (e != 3)
                release(&f, e);
        check_no_pins(&f);
        store_alone_close(&f);
    }
}

// ---- reads that fail ----

// The read of an expert fails, and another one that was under way likewise: one line is logged,
// nothing more is read for it, and the next who wants it gets it.
static void failed_expert_is_read_again(void **state)
{
    (void)state;
    store_alone f;
    store_alone_open(&f, store_path("tiny.gguf"), NULL, SLOTS);
    for (uint32_t turn = 0; turn < 3 * SLOTS; turn++) { // a slot lost each time would end this
        uint32_t e = turn % SLOTS;
        store_log_clear(&f.log);
        want(&f, e, STK_WANT_EXACT);
        assert_int_equal(take(turn % 2 ? PIECES : 2), turn % 2 ? PIECES : 2);
        finish(0, turn % 3 ? EIO : ENODATA);
        assert_int_equal(poll(&f, e), STK_PENDING); // the others may still write to its slot
        assert_int_equal(take(READS_MAX), 0);
        finish(0, EIO);
        if (turn % 2)
            finish(0, 0);
        assert_int_equal(poll(&f, e), STK_IO);
        assert_int_equal(f.log.errors, 1);
        assert_true(store_log_says(&f.log, turn % 3 ? strerror(EIO) : "become shorter"));
        want(&f, e, STK_WANT_DEMAND); // who waits is told, not made to wait again
        assert_int_equal(take(READS_MAX), 0);
        assert_int_equal(poll(&f, e), STK_IO);
        release(&f, e);
        assert_int_equal(poll(&f, e), STK_PENDING); // nobody's failure now
    }
    stk_expert_store_stats stats = stk_expert_store_get_stats(f.store);
    assert_int_equal(stats.wanted, 3 * SLOTS);
    assert_int_equal(stats.hits + stats.reads + stats.evictions, 0);
    for (uint32_t e = 0; e < SLOTS; e++)
        want(&f, e, STK_WANT_EXACT);
    settle();
    for (uint32_t e = 0; e < SLOTS; e++) {
        assert_int_equal(poll(&f, e), STK_OK);
        release(&f, e);
    }
    stats = stk_expert_store_get_stats(f.store);
    assert_int_equal(stats.reads, SLOTS);
    assert_int_equal(stats.hits + stats.evictions, 0);
    check_no_pins(&f);
    store_alone_close(&f);
}

// A guess that fails is nobody's error; one that somebody came to want meanwhile is read once more,
// and fails for good if that does.
static void failed_guess(void **state)
{
    (void)state;
    store_alone f;
    store_alone_open(&f, store_path("tiny.gguf"), NULL, SLOTS);
    guess_from(&f, 5, 1);
    assert_int_equal(take(READS_MAX), PIECES);
    finish(0, EIO);
    finish_all();
    assert_int_equal(poll(&f, 5), STK_PENDING);
    assert_int_equal(take(READS_MAX), 0);
    want(&f, 5, STK_WANT_EXACT);
    assert_int_equal(stk_expert_store_get_stats(f.store).speculative_used, 0);
    settle();
    assert_int_equal(poll(&f, 5), STK_OK);
    release(&f, 5);

    guess_from(&f, 6, 1);
    assert_int_equal(take(READS_MAX), PIECES);
    want(&f, 6, STK_WANT_EXACT);
    finish(0, EIO);
    finish_all();
    assert_int_equal(poll(&f, 6), STK_PENDING);
    assert_int_equal(take(READS_MAX), PIECES);
    finish(0, EIO);
    finish_all();
    assert_int_equal(poll(&f, 6), STK_IO);
    assert_int_equal(take(READS_MAX), 0);
    release(&f, 6);
    assert_int_equal(stk_expert_store_get_stats(f.store).reads, 1);
    store_alone_close(&f);
}

// With a sidecar one staging buffer is used, and the others are counted as memory to lend.
static void unused_staging_is_counted(void **state)
{
    (void)state;
    store_alone f;
    store_alone_open(&f, store_path("tiny.gguf"), NULL, SLOTS);
    uint64_t bytes = stk_expert_store_bytes(f.store);
    assert_int_equal(stk_expert_store_unused_bytes(f.store), 0);
    store_alone_close(&f);
    store_pack(store_path("tiny.gguf"), store_path("tiny.packed"));
    store_alone_open(&f, store_path("tiny.gguf"), store_path("tiny.packed"), SLOTS);
    uint64_t packed = stk_expert_store_bytes(f.store);
    assert_true(packed < bytes);
    assert_int_equal(stk_expert_store_unused_bytes(f.store), bytes - packed);
    // Three guesses of one read each leave room, whatever the disk could do.
    guess_from(&f, 0, 6);
    assert_int_equal(take(READS_MAX), 3);
    settle();
    store_alone_close(&f);
}

static int make_models(void **state)
{
    (void)state;
    store_write_tiny(store_path("tiny.gguf"), false, 1);
    store_write_shape(store_path("small.gguf"), "small", false, 1);
    return 0;
}

static int remove_models(void **state)
{
    (void)state;
    store_folder_remove();
    return 0;
}

// A worker that waits packs what has come, and says that there is staging for the next.
static void who_waits_packs(void **state)
{
    (void)state;
    store_alone f;
    store_alone_open(&f, store_path("tiny.gguf"), NULL, SLOTS);
    for (uint32_t e = 0; e < STK_STAGING_COUNT + 1; e++)
        want(&f, e, STK_WANT_EXACT);
    assert_int_equal(take(READS_MAX), STK_STAGING_COUNT * PIECES);
    while (io.count > 0)
        come_back(0, 0);
    assert_int_equal(take(READS_MAX), 0);
    io.kicks = 0;
    stk_expert_store_wait(f.store, stk_expert_store_events(f.store));
    assert_true(io.kicks > 0);
    assert_int_equal(take(READS_MAX), PIECES);
    settle();
    for (uint32_t e = 0; e < STK_STAGING_COUNT + 1; e++) {
        assert_int_equal(poll(&f, e), STK_OK);
        release(&f, e);
    }
    store_alone_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(guesses_leave_room),
        cmocka_unit_test(urgent_reads_first),
        cmocka_unit_test(pins),
        cmocka_unit_test(failed_expert_is_read_again),
        cmocka_unit_test(failed_guess),
        cmocka_unit_test(unused_staging_is_counted),
        cmocka_unit_test(who_waits_packs),
    };
    return cmocka_run_group_tests(tests, make_models, remove_models);
}
