/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The insides of struct machine, for machine*.c (life cycle), board*.c (which device sits where),
 * lifeline.c (signals and orderly shutdown) and stats.c. Devices never see this.
 */
#ifndef MINIVM_MACHINE_PRIV_H
#define MINIVM_MACHINE_PRIV_H

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "minivm/agent.h"
#include "minivm/block.h"
#include "minivm/boot.h"
#include "minivm/bus.h"
#include "minivm/console.h"
#include "minivm/iothread.h"
#include "minivm/irq.h"
#include "minivm/kernel_file.h"
#include "minivm/kvm.h"
#include "minivm/loop.h"
#include "minivm/machine.h"
#include "minivm/memory.h"
#include "minivm/port.h"
#include "minivm/snapshot.h"
#include "minivm/vcpu.h"
#include "minivm/virtio_blk.h"
#include "minivm/virtio_mmio.h"
#include "minivm/virtio_net.h"

/* Places in the MMIO hole (docs/architecture.md "What is where"). */
#define BOARD_VIRTIO_BASE   0xc0001000ull
#define BOARD_VIRTIO_STRIDE 0x1000ull

/*
 * The power button may be pressed before the kernel is ready for interrupts. KVM wires GSIs below
 * 16 to its 8259s too, which nobody programs on a hardware-reduced machine: out of reset they would
 * deliver GSI 3 as vector 3, an exception.
 */
#define BOARD_BUTTON_GSI     (IRQ_PINS - 1)
#define BOARD_GENERATION_GSI (IRQ_PINS - 2)

/* i8042, RTC, pvpanic, exit port, ACPI power, PCI configuration space */
#define BOARD_PLATFORM_DEVICES 6

#define BOARD_SLOTS_MAX IRQ_PINS

/* One virtio-mmio slot, whatever device is behind it. */
struct board_slot {
	struct virtio *virtio;
	struct virtio_mmio *mmio;
	struct irq_line irq;
	unsigned gsi;
	uint64_t base;
};

struct board_disk {
	struct block *image; /* until the device has taken it over */
	struct iothread io;  /* the disk's own event loop and thread */
	struct virtio_blk *blk;
	struct board_slot *slot;
};

/* A counter of a device's own, for --stats. */
struct device_counter {
	const char *name;
	uint64_t value;
};
#define BOARD_COUNTERS_MAX 12

struct virtio_balloon;

struct device_kind; /* a row of the table in board_device.c */

/* A virtio device that is neither disk nor network device. */
struct board_device {
	const struct device_kind *kind;
	const char *name; /* "rng", ... in --stats and in messages */
	void *dev;	  /* the slot's, once it is plugged */
	struct board_slot *slot;
};

struct board_net {
	struct netdev *backend; /* until the device has taken it over */
	struct iothread io;
	struct virtio_net *net;
	struct board_slot *slot;
	pid_t passt; /* NET_USER: the process behind it, else 0 */
};

/* Orderly shutdown from outside: vmm/lifeline.c. */
struct lifeline {
	struct loop_source source; /* signalfd */
	struct loop_timer grace;
	bool asked; /* the guest was asked to shut down */
};

/* vmm/machine_pause.c; the main loop's. */
struct machine_pause {
	enum machine_state state;
	struct loop_work work; /* posted when all vCPUs wait */
	machine_done_fn *done;
	void *opaque;
};

struct machine {
	const struct vm_config *config;
	struct log *log;

	int kvm_fd;
	int vm_fd;
	struct kvm_cpuid2 *cpuid; /* what KVM supports, then what the last vCPU was given */
	unsigned cpuid_capacity;  /* entries that fit into it */
	uint32_t tsc_khz;	  /* of restored vCPUs */
	bool tsc_deadline;	  /* the guest's local APICs have that mode */
	bool emulating;		  /* KVM's back end emulates kernel mode (docs/architecture.md) */
	bool assist;		  /* vCPUs carry an assist */
	bool hvc;		  /* there is a virtio console beside COM1 */
	bool generation;	  /* it has an ACPI generation id */
	enum describe_mode describe; /* not DESCRIBE_AUTO any more */

	struct guest_mem mem;
	struct loop *loop; /* the main thread's */
	struct bus pio;
	struct bus mmio;
	struct irq_alloc irqs;

	struct irq_line com1;
	struct irq_line button; /* the ACPI power button; not connected without ACPI */
	struct console *console;
	bool stdin_is_tty; /* and the console's */
	int console_fd;	   /* --console file=, else -1 */
	struct port *port[CONFIG_PORTS_MAX];
	struct agent *agent; /* NULL without --agent on */
	void *platform[BOARD_PLATFORM_DEVICES];
	void *mark_port;
	unsigned slot_count;   /* taken by board_plan() */
	unsigned disk_count;   /* opened so far */
	unsigned device_count; /* planned */
	unsigned net_count;    /* opened so far */
	struct board_slot slot[BOARD_SLOTS_MAX];
	struct board_disk disk[CONFIG_DISKS_MAX];
	struct board_device device[BOARD_SLOTS_MAX];
	struct iothread device_io; /* shared by the devices, there only with one of them */
	struct board_net net[CONFIG_NETS_MAX];

	struct cmdline cmdline;
	struct boot_result boot;

	struct machine_pause pause;
	struct snapshot *restore; /* what the machine is made from, while it is made; or NULL */
	struct lifeline lifeline;
	struct loop_timer trim_timer;	/* one-shot, minivm/trim.h */
	struct loop_timer assist_timer; /* kicks vCPUs until their assist is armed, assist.h */
	struct vcpu_env env;
	unsigned vcpu_count; /* created so far */
	struct vcpu *vcpu;

	/* vm_end_reason | status << 8; the first end that is reported wins. */
	_Atomic unsigned end;
};

/* --- board.c --- */

/* Gives each device of the configuration its address and interrupt; opens nothing. */
int board_plan(struct machine *m, struct err *err);
/* Makes the devices and puts them on the buses. Opens the user's files: last in the set-up. */
int board_populate(struct machine *m, struct err *err);
/*
 * Before the vCPUs run: the terminal in raw mode. board_start_disks(), _nets() and _devices()
 * follow when they do.
 */
int board_start(struct machine *m, struct err *err);
/* Stops the devices' threads, which may not have been started. */
void board_stop(struct machine *m);
void board_depopulate(struct machine *m);
/* DESCRIBE_MPTABLE: the command-line words that describe the virtio devices. */
int board_describe(const struct machine *m, struct cmdline *c, struct err *err);
/* Writes MP table, ACPI tables or device tree, and into `boot` what the kernel is told of them. */
int board_write_tables(const struct machine *m, struct boot_request *boot, struct err *err);
/* A restored machine is another one: it gets a generation id of its own, and an event says so. */
int board_new_generation(const struct machine *m, struct err *err);

/* --- board_slot.c --- */

/* The next slot, with its address and interrupt pin. -ENOSPC: no pin left. board_plan() only. */
int board_slot_take(struct machine *m, struct board_slot **out, struct err *err);
/*
 * Puts a device into its slot: registers on the bus, interrupt by irqfd, kicks by ioeventfd. `dev`
 * is taken over in any case: after an error, too, it is ended, here or by board_slot_unplug().
 */
int board_slot_plug(struct machine *m, struct board_slot *slot, const struct virtio_ops *ops,
		    void *dev, struct loop *loop, struct err *err);
/* Ends the device, if there is one. Its loop still exists, no vCPU runs. */
void board_slot_unplug(struct board_slot *slot);

/* --- board_disk.c, in the order of a machine's life --- */

int board_plan_disks(struct machine *m, struct err *err);
int board_open_images(struct machine *m, struct err *err);
int board_add_disks(struct machine *m, struct err *err);
int board_start_disks(struct machine *m, struct err *err);
void board_stop_disks(struct machine *m);
void board_remove_disks(struct machine *m);

/* --- board_device.c, in the order of a machine's life --- */

int board_plan_devices(struct machine *m, struct err *err);
/* The loop that devices share; made when the first asks for it. */
int board_open_device_loop(struct machine *m, struct err *err);
int board_add_devices(struct machine *m, struct err *err);
int board_start_devices(struct machine *m, struct err *err);
void board_stop_devices(struct machine *m);
void board_remove_devices(struct machine *m);
void board_close_device_loop(struct machine *m);
/* The device's own counters; how many. */
unsigned board_device_counters(const struct board_device *device,
			       struct device_counter out[BOARD_COUNTERS_MAX]);
/* The guest's memory balloon; NULL: it has none. */
struct virtio_balloon *board_balloon(const struct machine *m);

/* --- board_net.c, likewise --- */

int board_plan_nets(struct machine *m, struct err *err);
int board_add_nets(struct machine *m, struct err *err);
int board_start_nets(struct machine *m, struct err *err);
void board_stop_nets(struct machine *m);
void board_remove_nets(struct machine *m);

/* --- board_console.c: COM1, its host side, and the virtio console devices --- */

/* Files of the user's, before anything is changed. */
int board_check_console(const struct machine *m, struct err *err);
/* COM1 and its host side, on the devices' loop if there is a virtio console. */
int board_add_console(struct machine *m, struct err *err);
/* Behind board_remove_devices(). */
void board_remove_console(struct machine *m);
/* Standard input and output are the guest's console. */
bool board_console_is_stdio(const struct machine *m);
/* Rows of board_device.c. */
bool board_hvc_wanted(const struct machine *m);
int board_hvc_make(struct machine *m, void **dev, struct err *err);
bool board_ports_wanted(const struct machine *m);
int board_ports_make(struct machine *m, void **dev, struct err *err);
unsigned board_console_counters(const void *dev, struct device_counter out[BOARD_COUNTERS_MAX]);
void board_console_drain(void *dev);
/* The devices are restored: the guest is to be told, if it has an agent. */
void board_tell_agent(const struct machine *m);

/* --- machine_boot.c --- */

/* Is there to be a virtio console? By --console, the kernel, and its command line. */
bool machine_wants_hvc(const struct machine *m, const struct boot_result *kernel);

/* The files that are loaded, open or read. */
struct machine_images {
	struct kernel_file kernel;
	int initrd_fd; /* -1: none */
	struct stat initrd_stat;
};
/* `images` is ended with machine_close_images(), also after an error. */
int machine_open_images(const struct machine *m, struct machine_images *images, struct err *err);
void machine_close_images(struct machine_images *images);
/* Kernel, initrd, command line and tables into guest memory. */
int machine_load_kernel(struct machine *m, const struct machine_images *images, struct err *err);

/* --- machine_vcpus.c --- */

/* /dev/kvm, the VM with its interrupt controllers, guest memory as its slots. */
int machine_open_vm(struct machine *m, struct err *err);
/* The vCPUs, the first with its entry registers. */
int machine_create_vcpus(struct machine *m, struct err *err);
void machine_destroy_vcpus(struct machine *m);

/* Edits m->cpuid to be what vCPU `index` is given. */
void machine_vcpu_cpuid(struct machine *m, unsigned index);

/* --- machine_state.c --- */

/* The copy of a disk's layer: a file that gets its name when all of a snapshot is there. */
struct layer_copy {
	char *path;	 /* the state has the part behind the last slash */
	char *temporary; /* where it is written; in the same directory */
	bool made;	 /* not of a disk without a layer */
};

/* Of a paused machine, with a layer_copy for each of its disks. */
int machine_save(struct machine *m, struct layer_copy *layers, struct state_writer *w,
		 struct err *err);
/* In this order, each from where m->restore->reader is. */
int machine_restore_setup(struct machine *m, struct err *err);
int machine_restore_disks(struct machine *m, struct err *err);
int machine_restore_vcpu(struct machine *m, struct vcpu *v, struct err *err);
int machine_restore_vm(struct machine *m, struct err *err);
int machine_restore_devices(struct machine *m, struct err *err);

/* --- machine_pause.c --- */

void machine_pause_init(struct machine *m);
void machine_pause_destroy(struct machine *m);

/* --- lifeline.c --- */

/* The signals that end minivm are blocked for all threads and read by the main loop. */
int lifeline_open(struct machine *m, struct err *err);
void lifeline_close(struct machine *m);
/* Asks the guest to shut down; it is stopped after the grace time. Once. */
void lifeline_ask(struct machine *m);
/* Ctrl-A x. */
void lifeline_quit(void *machine);

/* --- machine.c --- */

/* The vm_end_sink of every device and vCPU. */
void machine_report_end(void *machine, enum vm_end_reason reason, uint8_t status);
/* The mark port's: user space has begun. On a vCPU's thread. */
void machine_report_init(void *machine);

#endif
