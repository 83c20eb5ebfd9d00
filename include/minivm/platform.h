/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The small platform devices beside the UART. Each constructor returns an opaque device for the
 * bus with the io_ops named beside it; io_ops.destroy frees it.
 */
#ifndef MINIVM_PLATFORM_H
#define MINIVM_PLATFORM_H

#include "minivm/bus.h"
#include "minivm/end.h"
#include "minivm/err.h"

/*
 * i8042: only what a reset needs. Command 0xfe at port 0x64 ends the machine with VM_END_REBOOT.
 * The range includes port 0x61 (speaker), which KVM's in-kernel PIT answers before we would.
 */
#define I8042_PORT 0x60
#define I8042_LEN  5
extern const struct io_ops i8042_io_ops;
int i8042_new(const struct vm_end_sink *end, void **out, struct err *err);

/* MC146818 RTC at 0x70/0x71: UTC wall clock, read-only time, UIP always clear. */
#define RTC_PORT 0x70
#define RTC_LEN	 2
extern const struct io_ops rtc_io_ops;
int rtc_new(void **out, struct err *err);

/* pvpanic (QEMU docs/specs/pvpanic): bit 0 panicked, bit 1 crash loaded. */
#define PVPANIC_PORT 0x505
#define PVPANIC_LEN  1
extern const struct io_ops pvpanic_io_ops;
int pvpanic_new(const struct vm_end_sink *end, void **out, struct err *err);

/* Exit port: a byte written powers the machine off with that status. */
#define EXIT_PORT     0xf4
#define EXIT_PORT_LEN 1
extern const struct io_ops exit_port_io_ops;
int exit_port_new(const struct vm_end_sink *end, void **out, struct err *err);

/* PCI configuration space without a function in it, for kernels that miss it; has no state. */
#define PCI_CONFIG_PORT 0xcf8
#define PCI_CONFIG_LEN	8
extern const struct io_ops pci_config_io_ops;

/* Mark port: each write calls `mark`, on a vCPU's thread. */
#define MARK_PORT     0xf5
#define MARK_PORT_LEN 1
extern const struct io_ops mark_port_io_ops;
int mark_port_new(void (*mark)(void *opaque), void *opaque, void **out, struct err *err);

#endif
