/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --stats: what happened, as JSON. The keys are documented in the man page and stay stable.
 *
 *	{"end": {"reason", "status"}, "kernel": {...}, "vcpus": [{"exits": {...}, ...}],
 *	 "console": {...}, "ports": [{...}], "agent": "...", "disks": [{...}], "devices": [{...}],
 *	 "nets": [{...}], "assist": {...}}
 *
 * jansson keeps the first failed allocation out of sight: a value that could not be made is NULL,
 * setting it fails, and machine_stats() then gives NULL as a whole.
 */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "machine_priv.h"
#include "minivm/file.h"

struct builder {
	bool failed;
};

static void put(struct builder *b, json_t *object, const char *key, json_t *value)
{
	if (json_object_set_new(object, key, value))
		b->failed = true;
}

static void put_count(struct builder *b, json_t *object, const char *key, uint64_t value)
{
	put(b, object, key, json_integer((json_int_t)value));
}

static json_t *exits_of(struct builder *b, const struct vcpu_counters *count)
{
	json_t *exits = json_object();
	unsigned i;

	for (i = 0; i < VCPU_EXIT_REASONS; i++) {
		if (count->exits[i])
			put_count(b, exits, vcpu_exit_name(i) ? vcpu_exit_name(i) : "unnamed",
				  count->exits[i]);
	}
	if (count->exits[VCPU_EXIT_REASONS])
		put_count(b, exits, "other", count->exits[VCPU_EXIT_REASONS]);
	return exits;
}

static json_t *vcpus_of(struct builder *b, const struct machine *m)
{
	json_t *list = json_array();
	unsigned i;

	for (i = 0; i < m->vcpu_count; i++) {
		const struct vcpu *v = &m->vcpu[i];
		json_t *object = json_object();

		put(b, object, "exits", exits_of(b, &v->count));
		put_count(b, object, "interrupted", v->count.interrupted);
		put_count(b, object, "again", v->count.again);
		put_count(b, object, "unclaimed", v->count.unclaimed);
		if (json_array_append_new(list, object))
			b->failed = true;
	}
	return list;
}

static json_t *console_of(struct builder *b, const struct machine *m)
{
	struct serial_counters count;
	json_t *object = json_object();

	serial_counters(console_serial(m->console), &count);
	put_count(b, object, "tx_bytes", count.tx_bytes);
	put_count(b, object, "tx_dropped", count.tx_dropped);
	put_count(b, object, "rx_bytes", count.rx_bytes);
	put_count(b, object, "interrupts", count.interrupts);
	put_count(b, object, "dropped", console_dropped(m->console));
	return object;
}

static void put_virtio(struct builder *b, json_t *object, const struct virtio *virtio)
{
	struct virtio_counters count;

	virtio_counters(virtio, &count);
	put_count(b, object, "kicks", count.kicks);
	put_count(b, object, "interrupts", count.interrupts);
	put_count(b, object, "malformed", count.malformed);
	put_count(b, object, "refused", count.refused);
	put_count(b, object, "activations", count.activations);
}

static json_t *disk_of(struct builder *b, const struct board_disk *disk)
{
	struct virtio_blk_counters blk;
	json_t *object = json_object();

	virtio_blk_counters(disk->blk, &blk);
	put(b, object, "name", json_string(disk->io.name));
	put_count(b, object, "requests", blk.requests);
	put_count(b, object, "read_bytes", blk.read_bytes);
	put_count(b, object, "written_bytes", blk.written_bytes);
	put_count(b, object, "flushes", blk.flushes);
	put_count(b, object, "errors", blk.errors);
	put_virtio(b, object, disk->slot->virtio);
	return object;
}

static json_t *disks_of(struct builder *b, const struct machine *m)
{
	json_t *list = json_array();
	unsigned i;

	for (i = 0; i < m->disk_count; i++) {
		if (json_array_append_new(list, disk_of(b, &m->disk[i])))
			b->failed = true;
	}
	return list;
}

static json_t *device_of(struct builder *b, const struct board_device *device)
{
	struct device_counter count[BOARD_COUNTERS_MAX];
	unsigned n = board_device_counters(device, count);
	json_t *object = json_object();

	put(b, object, "name", json_string(device->name));
	for (unsigned i = 0; i < n; i++)
		put_count(b, object, count[i].name, count[i].value);
	put_virtio(b, object, device->slot->virtio);
	return object;
}

static json_t *devices_of(struct builder *b, const struct machine *m)
{
	json_t *list = json_array();
	unsigned i;

	for (i = 0; i < m->device_count; i++) {
		if (json_array_append_new(list, device_of(b, &m->device[i])))
			b->failed = true;
	}
	return list;
}

static json_t *ports_of(struct builder *b, const struct machine *m)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < m->config->port_count; i++) {
		json_t *object = json_object();

		put(b, object, "name", json_string(m->config->port[i].name));
		put_count(b, object, "dropped", port_dropped(m->port[i]));
		if (json_array_append_new(list, object))
			b->failed = true;
	}
	return list;
}

static json_t *net_of(struct builder *b, const struct machine *m, unsigned i)
{
	struct virtio_net_counters net;
	json_t *object = json_object();

	virtio_net_counters(m->net[i].net, &net);
	put(b, object, "name", json_string(m->config->net[i].id));
	put_count(b, object, "rx_frames", net.rx_frames);
	put_count(b, object, "rx_bytes", net.rx_bytes);
	put_count(b, object, "rx_filtered", net.rx_filtered);
	put_count(b, object, "rx_dropped", net.rx_dropped);
	put_count(b, object, "tx_frames", net.tx_frames);
	put_count(b, object, "tx_bytes", net.tx_bytes);
	put_count(b, object, "tx_dropped", net.tx_dropped);
	put_count(b, object, "tx_malformed", net.tx_malformed);
	put_count(b, object, "commands", net.commands);
	put_virtio(b, object, m->net[i].slot->virtio);
	return object;
}

static json_t *nets_of(struct builder *b, const struct machine *m)
{
	json_t *list = json_array();
	unsigned i;

	for (i = 0; i < m->net_count; i++) {
		if (json_array_append_new(list, net_of(b, m, i)))
			b->failed = true;
	}
	return list;
}

static json_t *end_of(struct builder *b, const struct machine *m)
{
	json_t *object = json_object();
	int status;
	enum vm_end_reason reason = machine_end(m, &status);

	put(b, object, "reason", json_string(vm_end_reason_name(reason)));
	put_count(b, object, "status", (uint64_t)status);
	return object;
}

static json_t *kernel_of(struct builder *b, const struct machine *m)
{
	static const char *const image[] = {
	    [BOOT_IMAGE_ELF] = "elf",
	    [BOOT_IMAGE_BZIMAGE_UNPACKED] = "bzimage-unpacked",
	    [BOOT_IMAGE_BZIMAGE_RAW] = "bzimage-raw",
	};
	json_t *object = json_object();

	put(b, object, "image", json_string(image[m->boot.image]));
	put(b, object, "compression", json_string(m->boot.compression));
	put(b, object, "entry", json_string(m->boot.pvh ? "pvh" : "linux"));
	return object;
}

/* The sums over all vCPUs, by name; "enabled" tells a quiet assist from none. */
static json_t *assist_of(struct builder *b, const struct machine *m)
{
	json_t *object = json_object();
	unsigned i, n;

	put(b, object, "enabled", json_boolean(m->assist));
	for (n = 0; n < ASSIST_COUNTERS; n++) {
		uint64_t sum = 0;

		for (i = 0; i < m->vcpu_count; i++) {
			if (m->vcpu[i].assist)
				sum += assist_count(m->vcpu[i].assist, n);
		}
		if (sum)
			put_count(b, object, assist_counter_name(n), sum);
	}
	return object;
}

json_t *machine_stats(const struct machine *m)
{
	struct builder b = {false};
	json_t *root = json_object();

	put(&b, root, "end", end_of(&b, m));
	if (m->boot.compression) /* a restored machine has loaded none */
		put(&b, root, "kernel", kernel_of(&b, m));
	put(&b, root, "vcpus", vcpus_of(&b, m));
	put(&b, root, "console", console_of(&b, m));
	put(&b, root, "ports", ports_of(&b, m));
	if (m->agent)
		put(&b, root, "agent", json_string(agent_state_name(agent_state(m->agent))));
	put(&b, root, "disks", disks_of(&b, m));
	put(&b, root, "devices", devices_of(&b, m));
	put(&b, root, "nets", nets_of(&b, m));
	put(&b, root, "assist", assist_of(&b, m));
	if (b.failed) {
		json_decref(root);
		return NULL;
	}
	return root;
}
