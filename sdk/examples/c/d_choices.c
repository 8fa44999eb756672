// Balancer `d-choices`: of d endpoints taken at random, the one with the fewest exchanges under way for its weight.
//
// The power of d choices (Azar, Broder, Karlin, Upfal, "Balanced Allocations", SIAM J. Comput. 29(1), 1999): the first of them, the second, is what
// evens out the load; each further one costs a look at the statistics and brings less. With as many as there are endpoints it is least request.
//
// balancer.h is generated from plugin.wit. Its functions that begin with `exports_` are ours to write. What they are given is theirs to free,
// what they give back is allocated: the bindings free it.

#include <stdlib.h>
#include <string.h>

#include "balancer.h"

#ifndef VERSION
#define VERSION "0.1.0"
#endif

#define DEFAULT_CHOICES 2
#define MOST_CHOICES 16

#define JSON(...) #__VA_ARGS__

// The gateway refuses a configuration that does not fit, with the place in the operator's file.
static const char SCHEMA[] = JSON({
    "type": "object",
    "properties": {
        "choices": {
            "description": "How many endpoints are compared.",
            "type": "integer", "minimum": 1, "maximum": 16, "default": 2
        }
    },
    "additionalProperties": false
});

struct candidate {
    uint32_t index;
    uint32_t weight;
};

typedef struct exports_balancing_pool_t {
    uint32_t choices;
    // Those that may be picked: the ones with a weight, or all if none has one.
    struct candidate *candidates;
    uint32_t len;
} pool_t;

void exports_balancing_describe(exports_balancing_description_t *ret) {
    balancer_string_dup(&ret->name, "d-choices");
    balancer_string_dup(&ret->version, VERSION);
    ret->kind = SLUICEGATE_PLUGIN_TYPES_PLUGIN_KIND_BALANCER;
    balancer_string_dup(&ret->config_schema, SCHEMA);
}

// A whole JSON parser would be more than the balancer. The configuration fits the schema, so a colon is followed by the one number it may have.
static bool read_choices(const balancer_string_t *config, uint32_t *choices) {
    const uint8_t *end = config->ptr + config->len, *at = memchr(config->ptr, ':', config->len);
    *choices = DEFAULT_CHOICES;
    if (at == NULL)
        return true;
    at++;
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\r' || *at == '\n'))
        at++;
    for (*choices = 0; at < end && *at >= '0' && *at <= '9' && *choices <= MOST_CHOICES; at++)
        *choices = *choices * 10 + (*at - '0');
    return *choices >= 1 && *choices <= MOST_CHOICES;
}

// Without memory there is nothing to go on with. `abort` is a trap: the gateway drops the instance, and picks without it.
static void *allocate(size_t size) {
    void *memory = malloc(size);
    if (memory == NULL)
        abort();
    return memory;
}

bool exports_balancing_static_pool_open(balancer_string_t *config, exports_balancing_own_pool_t *ret, balancer_string_t *err) {
    uint32_t choices;
    bool readable = read_choices(config, &choices);
    balancer_string_free(config);
    if (!readable) {
        balancer_string_dup(err, "choices is no whole number from 1 to 16");
        return false;
    }
    pool_t *pool = allocate(sizeof *pool);
    *pool = (pool_t){.choices = choices};
    *ret = exports_balancing_pool_new(pool);
    return true;
}

void exports_balancing_pool_destructor(pool_t *pool) {
    free(pool->candidates);
    free(pool);
}

void exports_balancing_method_pool_update(pool_t *pool, exports_balancing_list_endpoint_t *endpoints) {
    bool weighted = false;
    for (size_t i = 0; i < endpoints->len; i++)
        weighted |= endpoints->ptr[i].weight > 0;
    free(pool->candidates);
    pool->candidates = endpoints->len > 0 ? allocate(endpoints->len * sizeof *pool->candidates) : NULL;
    pool->len = 0;
    for (size_t i = 0; i < endpoints->len; i++) {
        uint32_t weight = weighted ? endpoints->ptr[i].weight : 1;
        if (weight > 0)
            pool->candidates[pool->len++] = (struct candidate){i, weight};
    }
    exports_balancing_list_endpoint_free(endpoints);
}

static void swap(pool_t *pool, uint32_t a, uint32_t b) {
    struct candidate moved = pool->candidates[a];
    pool->candidates[a] = pool->candidates[b];
    pool->candidates[b] = moved;
}

bool exports_balancing_method_pool_pick(pool_t *pool, exports_balancing_pick_context_t *context, uint32_t *ret) {
    uint32_t choices = pool->choices < pool->len ? pool->choices : pool->len;
    uint32_t from[MOST_CHOICES];
    uint64_t bits = context->random;
    struct candidate best = {0};
    uint64_t least = 0;
    for (uint32_t i = 0; i < choices; i++) {
        // The call brings bits for two choices. A choice among those that are left: Fisher and Yates' shuffle, as far as it is needed.
        if (i > 0 && i % 2 == 0)
            bits = sluicegate_plugin_host_random();
        from[i] = i + (uint32_t)((bits & UINT32_MAX) * (pool->len - i) >> 32);
        bits >>= 32;
        swap(pool, i, from[i]);
        struct candidate candidate = pool->candidates[i];
        // With the exchange that is being placed, so that weights tell among idle endpoints too. load / weight < least / best.weight, without
        // dividing; at most 2^32 * (2^32 - 1). Of equal ones the first stays: their order is random.
        uint64_t load = (uint64_t)sluicegate_plugin_statistics_in_flight(candidate.index) + 1;
        if (i == 0 || load * best.weight < least * candidate.weight) {
            best = candidate;
            least = load;
        }
    }
    // Back to the order of `update`: a pick depends on its arguments and the statistics alone, so that it can be replayed.
    for (uint32_t i = choices; i-- > 0;)
        swap(pool, i, from[i]);
    *ret = best.index;
    return choices > 0;
}

// It wants no reports and keeps no state: the functions for both are never called.

exports_balancing_wants_t exports_balancing_method_pool_wants(pool_t *pool) {
    (void)pool;
    return 0;
}

void exports_balancing_method_pool_report(pool_t *pool, exports_balancing_outcome_t *outcome) {
    (void)pool, (void)outcome;
}

void exports_balancing_method_pool_save(pool_t *pool, exports_balancing_saved_state_t *ret) {
    (void)pool;
    *ret = (exports_balancing_saved_state_t){0};
}

bool exports_balancing_method_pool_restore(pool_t *pool, exports_balancing_saved_state_t *state, balancer_string_t *err) {
    (void)pool, (void)err;
    balancer_list_u8_free(&state->data);
    return true;
}
