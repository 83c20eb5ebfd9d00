/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine's state into its sections and back, in one order for both ways:
 *
 *	MACH	what the command lines do not say, and what must agree with them
 *	DISK	for each disk, what a restored one needs to be the same
 *	HOST	what the state is bound to
 *	CPUI, VCPU	for each vCPU
 *	KVM, CLCK	interrupt controllers, PIT, time
 *	BUS	port I/O and MMIO: the devices
 *
 * The devices come last, for they may raise interrupts that were under way.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "machine_priv.h"

#include "minivm/kvm_state.h"
#include "minivm/snapshot.h"

#define MACHINE_STATE	STATE_ID('M', 'A', 'C', 'H')
#define MACHINE_VERSION 3
#define DISK_STATE	STATE_ID('D', 'I', 'S', 'K')
#define DISK_VERSION	1
#define BUS_STATE	STATE_ID('B', 'U', 'S', ' ')
#define BUS_VERSION	1

/* --- save --- */

static void save_machine(const struct machine *m, struct state_writer *w)
{
	state_begin(w, MACHINE_STATE, MACHINE_VERSION);
	state_put_u32(w, m->vcpu_count);
	state_put_u64(w, guest_mem_bytes(&m->mem));
	state_put_u32(w, m->describe);
	state_put_bool(w, m->hvc);
	state_put_bool(w, m->generation);
	state_put_u32(w, (uint32_t)m->cmdline.len);
	state_put_bytes(w, m->cmdline.text, m->cmdline.len);
	state_end(w);
}

/* `path` as it is from everywhere; malloc'ed. */
static char *absolute(const char *path)
{
	char *dir = path[0] == '/' ? strdup("") : getcwd(NULL, 0);
	char *out = NULL;

	if (dir && asprintf(&out, "%s%s%s", dir, path[0] == '/' ? "" : "/", path) < 0)
		out = NULL;
	free(dir);
	return out;
}

static int save_disk(struct machine *m, unsigned index, struct layer_copy *layer,
		     struct state_writer *w, struct err *err)
{
	const struct disk_config *config = &m->config->disk[index];
	struct block *image = virtio_blk_backend(m->disk[index].blk);
	char *path = absolute(config->path);
	int ret;

	if (!path)
		return err_set(err, ENOMEM, "disk %s: out of memory", config->id);
	ret = image->ops->save(image, layer->temporary, &layer->made, err);
	state_begin(w, DISK_STATE, DISK_VERSION);
	state_put_string(w, path);
	state_put_u64(w, (uint64_t)image->mtime_ns);
	/* Beside the state file, wherever that will be. */
	state_put_string(w, layer->made ? basename(layer->path) : NULL);
	state_end(w);
	free(path);
	return ret ? err_context(err, "disk %s", config->id) : 0;
}

static int save_vcpus(struct machine *m, struct state_writer *w, struct err *err)
{
	struct kvm_host host;
	int ret = kvm_host_read(m->vcpu[0].fd, m->emulating, &host, err);

	if (ret)
		return ret;
	kvm_host_save(&host, w);
	for (unsigned i = 0; !ret && i < m->vcpu_count; i++) {
		machine_vcpu_cpuid(m, i);
		kvm_cpuid_save(m->vcpu[i].cpuid ? m->vcpu[i].cpuid : m->cpuid, w);
		ret = kvm_vcpu_save(m->kvm_fd, m->vm_fd, m->vcpu[i].fd, w, err);
		if (ret)
			return err_context(err, "vCPU %u", i);
	}
	return 0;
}

static void list_vcpus(const struct machine *m, int fds[CONFIG_CPUS_MAX])
{
	for (unsigned i = 0; i < m->vcpu_count; i++)
		fds[i] = m->vcpu[i].fd;
}

static int save_bus(const struct bus *bus, struct state_writer *w, struct err *err)
{
	int ret;

	state_begin(w, BUS_STATE, BUS_VERSION);
	ret = bus_save(bus, w, err);
	state_end(w);
	return ret;
}

int machine_save(struct machine *m, struct layer_copy *layers, struct state_writer *w,
		 struct err *err)
{
	int fds[CONFIG_CPUS_MAX];
	int ret = 0;

	save_machine(m, w);
	for (unsigned i = 0; !ret && i < m->disk_count; i++)
		ret = save_disk(m, i, &layers[i], w, err);
	if (!ret)
		ret = save_vcpus(m, w, err);
	if (!ret)
		ret = kvm_vm_save(m->vm_fd, w, err);
	list_vcpus(m, fds);
	if (!ret)
		ret = kvm_clock_save(m->vm_fd, fds, m->vcpu_count, w, err);
	if (!ret)
		ret = save_bus(&m->pio, w, err);
	if (!ret)
		ret = save_bus(&m->mmio, w, err);
	return ret;
}

/* --- restore --- */

int machine_restore_setup(struct machine *m, struct err *err)
{
	struct state_reader section;
	uint32_t cpus, describe, len;
	uint64_t memory;
	const char *text;
	int ret = state_enter(&m->restore->reader, MACHINE_STATE, MACHINE_VERSION, &section, err);

	if (ret)
		return ret;
	cpus = state_get_u32(&section);
	memory = state_get_u64(&section);
	describe = state_get_u32(&section);
	/* Version 1 had no virtio console, version 2 no generation id. */
	m->hvc = section.version >= 2 && state_get_bool(&section);
	m->generation = section.version >= 3 && state_get_bool(&section);
	len = state_get_u32(&section);
	text = state_get_slice(&section, len);
	ret = state_leave(&section, err);
	if (ret)
		return ret;
	if (cpus != m->config->cpus || memory != m->config->memory)
		return state_bad(err, "%u CPUs and %llu bytes, but its command line says otherwise",
				 cpus, (unsigned long long)memory);
	if (describe != DESCRIBE_ACPI && describe != DESCRIBE_MPTABLE && describe != DESCRIBE_FDT)
		return state_bad(err, "description %u", describe);
	if (m->generation && describe != DESCRIBE_ACPI)
		return state_bad(err, "a generation id without ACPI");
	m->describe = (enum describe_mode)describe;
	return cmdline_add(&m->cmdline, err, "%.*s", (int)len, text);
}

static int restore_disk(struct snapshot *s, struct snapshot_disk *disk, struct err *err)
{
	struct state_reader section;
	char *layer;
	int ret = state_enter(&s->reader, DISK_STATE, DISK_VERSION, &section, err);

	if (ret)
		return ret;
	disk->path = state_get_string(&section);
	disk->mtime_ns = (int64_t)state_get_u64(&section);
	layer = state_get_string(&section);
	ret = state_leave(&section, err);
	if (!ret && (!disk->path || (layer && strchr(layer, '/'))))
		ret = state_bad(err, "a disk without its path");
	if (!ret && layer)
		ret = config_copy_path(&disk->layer, layer, s->dir, err);
	free(layer);
	return ret;
}

int machine_restore_disks(struct machine *m, struct err *err)
{
	struct snapshot *s = m->restore;
	int ret = 0;

	for (s->disk_count = 0; !ret && s->disk_count < m->config->disk_count;)
		ret = restore_disk(s, &s->disk[s->disk_count++], err);
	return ret;
}

/* Of one vCPU that was just made: m->cpuid is what it would be given. */
int machine_restore_vcpu(struct machine *m, struct vcpu *v, struct err *err)
{
	struct state_reader *r = &m->restore->reader;
	struct kvm_host host;
	int ret = 0;

	if (v->index == 0) {
		ret = kvm_host_read(v->fd, m->emulating, &host, err);
		if (!ret)
			ret = kvm_host_check(&host, r, err);
		m->tsc_khz = host.tsc_khz;
	}
	if (!ret)
		ret = kvm_cpuid_restore(m->cpuid, r, &v->cpuid, err);
	if (ret)
		return ret;
	ret = kvm_vcpu_set_cpuid(v->fd, v->cpuid, err);
	if (!ret)
		ret = kvm_vcpu_restore(m->vm_fd, v->fd, r, err);
	if (!ret && m->assist)
		ret = vcpu_assist_new(v, v->cpuid, err);
	return ret;
}

int machine_restore_vm(struct machine *m, struct err *err)
{
	struct state_reader *r = &m->restore->reader;
	int fds[CONFIG_CPUS_MAX];
	int ret = kvm_vm_restore(m->vm_fd, r, err);

	list_vcpus(m, fds);
	if (!ret)
		ret = kvm_clock_restore(m->vm_fd, fds, m->vcpu_count, m->tsc_khz, r, err);
	return ret;
}

static int restore_bus(const struct bus *bus, struct state_reader *r, struct err *err)
{
	struct state_reader section;
	int ret = state_enter(r, BUS_STATE, BUS_VERSION, &section, err);

	if (!ret)
		ret = bus_restore(bus, &section, err);
	return ret ? ret : state_leave(&section, err);
}

int machine_restore_devices(struct machine *m, struct err *err)
{
	struct state_reader *r = &m->restore->reader;
	uint32_t id;
	int ret = restore_bus(&m->pio, r, err);

	if (!ret)
		ret = restore_bus(&m->mmio, r, err);
	if (!ret && (state_next(r, &id) || state_left(r) > 0))
		ret = state_bad(err, "more devices than the machine has");
	if (!ret)
		ret = board_new_generation(m, err);
	if (ret)
		return ret;
	board_tell_agent(m);
	/* It was when it was saved. */
	console_guest_is_up(m->console);
	return 0;
}
