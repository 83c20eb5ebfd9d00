/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine's life: NEW -> CONFIGURED -> RUNNING -> STOPPED(reason, status).
 *
 * machine_new() does everything that can fail, in an order in which no file of the user's is
 * opened for writing before all else is known to work: images, KVM, memory, vCPUs, then devices.
 * machine_run() starts the threads and sits in the main loop until somebody reports an end; the
 * first report wins.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "machine_priv.h"

#include "minivm/trim.h"

/* The BIOS warm-boot word. Linux stores 0x1234 there before a reset in "warm" mode. */
#define WARM_BOOT_WORD_GPA 0x472
#define WARM_BOOT	   0x1234

/* How long buffered console output may take at the end. */
#define CONSOLE_DRAIN_MS 2000

/* --- what the guest reports --- */

/*
 * Without a panic device a kernel resets after a panic as it does for a reboot. With "panic_warm"
 * in its reboot= word (BOARD_CMDLINE) it leaves the warm-boot word behind in the first case only.
 */
static bool reset_was_panic(const struct machine *m)
{
	uint16_t word;

	return strstr(m->cmdline.text, "panic_warm") &&
	       guest_mem_read(&m->mem, GPA(WARM_BOOT_WORD_GPA), &word, sizeof(word)) == 0 &&
	       word == WARM_BOOT;
}

void machine_report_end(void *machine, enum vm_end_reason reason, uint8_t status)
{
	struct machine *m = machine;
	unsigned none = VM_END_NONE;

	if (reason == VM_END_REBOOT && reset_was_panic(m))
		reason = VM_END_PANIC;
	if (atomic_compare_exchange_strong(&m->end, &none, reason | (unsigned)status << 8)) {
		timeline_mark(m->env.timeline, TIMELINE_END);
		/* A vCPU whose write was the end does not go on behind it until it is kicked. */
		atomic_store_explicit(&m->env.stop, true, memory_order_seq_cst);
		loop_quit(m->loop);
	}
}

void machine_report_init(void *machine)
{
	struct machine *m = machine;

	timeline_mark(m->env.timeline, TIMELINE_INIT);
	console_guest_is_up(m->console);
}

enum vm_end_reason machine_end(const struct machine *m, int *status)
{
	unsigned end = atomic_load(&m->end);
	enum vm_end_reason reason = (enum vm_end_reason)(end & 0xff);

	*status = vm_end_exit_status(reason, (uint8_t)(end >> 8));
	return reason;
}

/* --- making --- */

static int configure(struct machine *m, struct err *err)
{
	struct timeline *t = m->env.timeline;
	struct machine_images images;
	int ret = machine_open_images(m, &images, err);

	if (!ret)
		ret = guest_mem_map_pages(&m->mem, m->config->memory, m->config->pages, err);
	timeline_mark(t, TIMELINE_MEMORY);
	if (!ret)
		ret = machine_open_vm(m, err);
	timeline_mark(t, TIMELINE_VM);
	if (!ret) {
		m->hvc = machine_wants_hvc(m, &kernel_file_image(&images.kernel)->info);
		ret = board_plan(m, err);
	}
	if (!ret)
		ret = machine_load_kernel(m, &images, err);
	machine_close_images(&images);
	timeline_mark(t, TIMELINE_KERNEL);
	if (!ret)
		ret = machine_create_vcpus(m, err);
	if (!ret)
		ret = loop_new(&m->loop, err);
	if (!ret)
		ret = board_populate(m, err);
	if (!ret)
		ret = lifeline_open(m, err);
	timeline_mark(t, TIMELINE_DEVICES);
	return ret;
}

/* If KVM lacks something that machines need, that is why, whatever else was said. */
static void explain(const struct machine *m, struct err *err)
{
	struct err missing = {0};

	if (m->kvm_fd >= 0 && kvm_caps_required(m->kvm_fd, &missing))
		*err = missing;
}

/* As configure(), without a kernel: memory, registers and devices are as they were saved. */
static int configure_restored(struct machine *m, struct err *err)
{
	struct timeline *t = m->env.timeline;
	struct snapshot_memory memory;
	int ret = snapshot_read_memory_section(m->restore, &memory, err);

	if (!ret)
		ret = machine_restore_setup(m, err);
	if (!ret)
		ret = machine_restore_disks(m, err);
	if (!ret)
		ret = guest_mem_map(&m->mem, m->config->memory, err);
	if (!ret)
		ret = snapshot_map_memory(&m->mem, m->restore->memory_fd, &memory, err);
	timeline_mark(t, TIMELINE_MEMORY);
	if (!ret)
		ret = machine_open_vm(m, err);
	timeline_mark(t, TIMELINE_VM);
	if (!ret)
		ret = board_plan(m, err);
	if (!ret)
		ret = machine_create_vcpus(m, err);
	if (!ret)
		ret = machine_restore_vm(m, err);
	if (!ret)
		ret = loop_new(&m->loop, err);
	if (!ret)
		ret = board_populate(m, err);
	if (!ret)
		ret = machine_restore_devices(m, err);
	if (!ret)
		ret = lifeline_open(m, err);
	timeline_mark(t, TIMELINE_DEVICES);
	return ret;
}

static int make(const struct vm_config *config, struct snapshot *restore, struct log *log,
		struct timeline *timeline, struct machine **out, struct err *err)
{
	struct machine *m = calloc(1, sizeof(*m));
	int ret;

	if (!m)
		return err_set(err, ENOMEM, "machine: out of memory");
	m->config = config;
	m->restore = restore;
	m->log = log;
	m->kvm_fd = m->vm_fd = m->console_fd = m->com1.fd = m->button.fd = m->lifeline.source.fd =
	    -1;
	bus_init(&m->pio, "port I/O");
	bus_init(&m->mmio, "MMIO");
	irq_alloc_init(&m->irqs);
	m->env.mem = &m->mem;
	m->env.pio = &m->pio;
	m->env.mmio = &m->mmio;
	m->env.log = log;
	m->env.timeline = timeline;
	m->env.end.end = machine_report_end;
	m->env.end.opaque = m;
	machine_pause_init(m);
	ret = restore ? configure_restored(m, err) : configure(m, err);
	m->restore = NULL;
	if (ret) {
		explain(m, err);
		machine_destroy(m);
		return err->code;
	}
	*out = m;
	return 0;
}

int machine_new(const struct vm_config *config, struct log *log, struct timeline *timeline,
		struct machine **out, struct err *err)
{
	return make(config, NULL, log, timeline, out, err);
}

int machine_restore(const struct vm_config *config, struct snapshot *s, struct log *log,
		    struct timeline *timeline, struct machine **out, struct err *err)
{
	return make(config, s, log, timeline, out, err);
}

void machine_destroy(struct machine *m)
{
	if (!m)
		return;
	machine_destroy_vcpus(m);
	lifeline_close(m);
	board_depopulate(m);
	loop_free(m->loop);
	cmdline_free(&m->cmdline);
	free(m->cpuid);
	if (m->vm_fd >= 0)
		close(m->vm_fd);
	if (m->kvm_fd >= 0)
		close(m->kvm_fd);
	guest_mem_unmap(&m->mem);
	machine_pause_destroy(m);
	free(m);
}

/* --- running --- */

/* On emulating hosts only: a vCPU must come out of KVM_RUN for its assist to be armed. */
#define ASSIST_KICK_NS 5000000ull

static void kick_for_assist(void *opaque)
{
	struct machine *m = opaque;
	unsigned i;

	for (i = 0; i < m->vcpu_count; i++) {
		if (assist_wants_kick(m->vcpu[i].assist))
			vcpu_kick(&m->vcpu[i]);
	}
	loop_timer_arm(&m->assist_timer, ASSIST_KICK_NS);
}

static void start_assist_timer(struct machine *m)
{
	if (!m->assist)
		return;
	loop_timer_init(m->loop, &m->assist_timer, kick_for_assist, m);
	loop_timer_arm(&m->assist_timer, ASSIST_KICK_NS);
}

/* All threads have started by then, on the slowest host. */
#define TRIM_AFTER_NS 200000000ull

static void trim(void *opaque)
{
	struct machine *m = opaque;

	loop_timer_destroy(&m->trim_timer);
	trim_program();
}

/* Not where somebody may be debugging: breakpoints would go with the pages. */
static void start_trim_timer(struct machine *m)
{
	if (m->log->level >= LOG_LEVEL_DEBUG)
		return;
	loop_timer_init(m->loop, &m->trim_timer, trim, m);
	loop_timer_arm(&m->trim_timer, TRIM_AFTER_NS);
}

/* All threads of the guest are gone when this returns; the devices' memory is still there. */
static void stop_threads(struct machine *m)
{
	unsigned i;

	atomic_store_explicit(&m->env.stop, true, memory_order_seq_cst);
	vcpu_gate_open(&m->env.gate);
	for (i = 0; i < m->vcpu_count; i++)
		vcpu_kick(&m->vcpu[i]);
	for (i = 0; i < m->vcpu_count; i++)
		vcpu_join(&m->vcpu[i]);
	board_stop(m);
}

/* Eight on two processors come up, sixteen do not: 100 ticks a second each, at 1.5 ms. */
#define EMULATED_VCPUS_PER_PROCESSOR 4

static void warn_of_many_vcpus(const struct machine *m)
{
	long limit = EMULATED_VCPUS_PER_PROCESSOR * sysconf(_SC_NPROCESSORS_ONLN);

	if ((long)m->vcpu_count > limit)
		log_msg(m->log, LOG_LEVEL_WARN,
			"%u vCPUs may be kept busy by their timer interrupts alone where these are "
			"emulated: on this host, have %ld or fewer",
			m->vcpu_count, limit);
}

/* Not before all is set up: where that fails, its one line is what matters. */
static void warn_of_emulation(const struct machine *m)
{
	if (!m->emulating)
		return;
	log_msg(m->log, LOG_LEVEL_WARN,
		"KVM emulates guest kernel mode on this host, which is slow ('minivm doctor')%s",
		m->config->cmdline_only || !m->boot.compression /* restored */
		    ? ""
		    : "; words for it are added to the command line");
	if (m->vcpu_count > EMULATED_VCPUS_PER_PROCESSOR)
		warn_of_many_vcpus(m);
}

/*
 * Threads of devices, timers: while the guest starts, which takes its time until it needs them;
 * what it asks of a device that early stays pending.
 */
static int start_services(struct machine *m, struct err *err)
{
	int ret = board_start_disks(m, err);

	if (!ret)
		ret = board_start_nets(m, err);
	if (!ret)
		ret = board_start_devices(m, err);
	if (ret)
		return ret;
	start_assist_timer(m);
	start_trim_timer(m);
	return 0;
}

int machine_run(struct machine *m, struct err *err)
{
	unsigned i;
	int ret = vcpu_install_kick(err);

	if (!ret)
		ret = board_start(m, err);
	for (i = 0; !ret && i < m->vcpu_count; i++)
		ret = vcpu_start(&m->vcpu[i], err);
	if (!ret)
		ret = start_services(m, err);
	if (!ret) {
		if (machine_state(m) == MACHINE_RUNNING)
			agent_guest_runs(m->agent);
		warn_of_emulation(m);
		ret = loop_run(m->loop);
		if (ret)
			err_sys(err, -ret, "main event loop");
	}
	stop_threads(m);
	loop_timer_destroy(&m->assist_timer);
	loop_timer_destroy(&m->trim_timer);
	console_drain(m->console, CONSOLE_DRAIN_MS);
	return ret;
}
