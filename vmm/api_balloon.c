/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the control socket tells and changes of the memory balloon (docs/api.md). The device is told
 * on its own loop, which the main loop waits for: its turns are bounded.
 */
#include "api_priv.h"

#include "machine_priv.h"
#include "minivm/clock.h"
#include "minivm/virtio_balloon.h"

#define MIB_SHIFT 20

/* NULL: the request was refused. */
static struct virtio_balloon *balloon_of(struct api_connection *c)
{
	struct virtio_balloon *b = board_balloon(c->api->m);

	if (!b)
		api_refuse(c, "the machine has no balloon: start it with --balloon on or "
			      "--balloon SIZE");
	return b;
}

void api_get_balloon(struct api_connection *c, json_t *body)
{
	const struct virtio_balloon *b = balloon_of(c);
	struct virtio_balloon_counters count;
	struct virtio_balloon_stats stats;

	(void)body;
	if (!b)
		return;
	virtio_balloon_counters(b, &count);
	virtio_balloon_stats(b, &stats);
	api_reply(c, 200,
		  json_pack("{s:I, s:b, s:I, s:b}", "amount_mib",
			    (json_int_t)(count.target >> MIB_SHIFT), "deflate_on_oom", true,
			    "stats_polling_interval_s", (json_int_t)(stats.interval_ns / SECOND_NS),
			    "free_page_reporting", true));
}

void api_patch_balloon(struct api_connection *c, json_t *body)
{
	struct virtio_balloon *b = balloon_of(c);
	uint64_t memory = c->api->m->config->memory;
	json_int_t mib;

	if (!b)
		return;
	if (json_unpack(body, "{s:I !}", "amount_mib", &mib) < 0 || mib < 0)
		api_refuse(c, "a body {\"amount_mib\": N} is due");
	else if ((uint64_t)mib > UINT64_MAX >> MIB_SHIFT ||
		 virtio_balloon_set_target(b, (uint64_t)mib << MIB_SHIFT))
		api_refuse(c, "the balloon is to be less than the machine's memory of %lluK",
			   (unsigned long long)(memory >> 10));
	else
		api_reply(c, 204, NULL);
}

/* The guest says what it likes: no number of it turns out negative. */
static json_t *told(uint64_t value)
{
	return json_integer(value < INT64_MAX ? (json_int_t)value : INT64_MAX);
}

void api_get_balloon_stats(struct api_connection *c, json_t *body)
{
	const struct virtio_balloon *b = balloon_of(c);
	struct virtio_balloon_counters count;
	struct virtio_balloon_stats stats;
	json_t *json;

	(void)body;
	if (!b)
		return;
	virtio_balloon_counters(b, &count);
	virtio_balloon_stats(b, &stats);
	json = json_pack("{s:I, s:I, s:I, s:I}", "target_pages",
			 (json_int_t)(count.target / VIRTIO_BALLOON_PAGE), "actual_pages",
			 (json_int_t)(count.actual / VIRTIO_BALLOON_PAGE), "target_mib",
			 (json_int_t)(count.target >> MIB_SHIFT), "actual_mib",
			 (json_int_t)(count.actual >> MIB_SHIFT));
	for (unsigned tag = 0; tag < VIRTIO_BALLOON_STATS; tag++) {
		if (stats.told & 1u << tag)
			(void)json_object_set_new(json, virtio_balloon_stat_names[tag],
						  told(stats.value[tag]));
	}
	api_reply(c, 200, json);
}

void api_patch_balloon_stats(struct api_connection *c, json_t *body)
{
	struct virtio_balloon *b = balloon_of(c);
	struct virtio_balloon_stats stats;
	json_int_t seconds;

	if (!b)
		return;
	virtio_balloon_stats(b, &stats);
	if (json_unpack(body, "{s:I !}", "stats_polling_interval_s", &seconds) < 0 || seconds < 0 ||
	    seconds > CONFIG_BALLOON_STATS_MAX)
		api_refuse(c, "a body {\"stats_polling_interval_s\": 0 to %d} is due",
			   CONFIG_BALLOON_STATS_MAX);
	else if (virtio_balloon_set_stats(b, (uint64_t)seconds * SECOND_NS) == 0)
		api_reply(c, 204, NULL);
	else if (seconds == 0)
		api_refuse(c, "statistics cannot be switched off while the machine runs");
	else
		api_refuse(c, "statistics cannot be switched on while the machine runs: start it "
			      "with --balloon SIZE,stats=SECONDS");
}
