#include "cli/text_stop.h"

#include <assert.h>

void stk_text_stop_begin(stk_text_stop *stop, const char *const *stops, size_t count)
{
    *stop = (stk_text_stop){.stops = stops, .stop_count = count};
    for (size_t i = 0; i < count; i++)
        assert(stops[i][0] && strlen(stops[i]) <= STK_TEXT_STOP_BYTES_MAX);
}

static char byte_at(const stk_text_stop *stop, stk_str piece, size_t at)
{
    return at < stop->held_bytes ? stop->held[at] : piece.data[at - stop->held_bytes];
}

// Bytes of a stop string that agree with the text from `at`, up to the end of either.
static size_t agreeing(const stk_text_stop *stop, stk_str piece, size_t at, const char *string)
{
    size_t total = stop->held_bytes + piece.len_bytes, n = 0;
    while (string[n] && at + n < total && string[n] == byte_at(stop, piece, at + n))
        n++;
    return n;
}

bool stk_text_stop_feed(stk_text_stop *stop, stk_str piece, stk_text_shown *shown)
{
    size_t total = stop->held_bytes + piece.len_bytes, at = 0;
    bool is_growing = false;
    for (; at < total && !is_growing && !stop->is_over; at++)
        for (size_t i = 0; i < stop->stop_count; i++) {
            size_t n = agreeing(stop, piece, at, stop->stops[i]);
            if (stop->stops[i][n] == '\0' && !stop->is_over) {
                stop->is_over = true;
                stop->found = i;
            }
            is_growing |= at + n == total;
        }
    at -= is_growing || stop->is_over; // where the loop found something
    size_t before = at < stop->held_bytes ? at : stop->held_bytes;
    memcpy(shown->before, stop->held, before);
    shown->before_bytes = before;
    shown->text = (stk_str){piece.data, at - before};
    char held[STK_TEXT_STOP_BYTES_MAX];
    size_t held_bytes = stop->is_over ? 0 : total - at;
    for (size_t i = 0; i < held_bytes; i++)
        held[i] = byte_at(stop, piece, at + i);
    memcpy(stop->held, held, held_bytes);
    stop->held_bytes = held_bytes;
    return !stop->is_over;
}

stk_str stk_text_stop_end(stk_text_stop *stop)
{
    size_t whole = stop->held_bytes; // up to a stop that a longer one, now not coming, hid
    for (size_t at = 0; at < whole; at++)
        for (size_t i = 0; i < stop->stop_count; i++)
            if (stop->stops[i][agreeing(stop, (stk_str){NULL, 0}, at, stop->stops[i])] == '\0')
                whole = at;
    stk_str rest = {stop->held, whole};
    stop->held_bytes = 0; // the bytes stay until the next feed
    return rest;
}
