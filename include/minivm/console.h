/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmm/console.c joins the UART, and a virtio console beside it, to the process's stdin/stdout, a
 * file or nothing; vmm/term.c puts a terminal into raw mode and back.
 */
#ifndef MINIVM_CONSOLE_H
#define MINIVM_CONSOLE_H

#include <stdbool.h>

#include "minivm/err.h"
#include "minivm/log.h"
#include "minivm/loop.h"
#include "minivm/serial.h"
#include "minivm/timeline.h"
#include "minivm/virtio_console.h"

struct console;

struct console_options {
	int in_fd;  /* -1: no input */
	int out_fd; /* -1: output is discarded */
	/*
	 * Ctrl-A is the escape key: x quits, h helps, a or Ctrl-A sends Ctrl-A. For terminals:
	 * input is then read on even when the guest takes none, so that Ctrl-A x always works; what
	 * does not fit into 64 KiB of type-ahead is dropped.
	 */
	bool escape;
	const struct log *log;
	struct timeline *timeline; /* or NULL */
	/* Ctrl-A x was typed; on the loop's thread. */
	void (*quit)(void *opaque);
	void *opaque;
};

/*
 * Makes console and UART. The descriptors stay the caller's; they are never put into non-blocking
 * mode (their open file description is shared with other processes), and the loop never blocks on
 * them all the same. End of input is not an error: output goes on. A reader that went away or a
 * full disk is one line in the log; the machine goes on. SIGPIPE must be ignored.
 *
 * The loop must not be running yet, or the caller is on its thread; the same for destroy, at which
 * time no vCPU may touch the UART any more.
 */
int console_new(struct loop *loop, const struct irq_line *irq, const struct console_options *opt,
		struct console **out, struct err *err);
struct serial *console_serial(struct console *c); /* owned by the console */

/*
 * A virtio console on the same loop: made with console_virtio_host and the console as its opaque
 * pointer, attached before the machine runs, ended before the console. It is the host side of port
 * 0; with it, output of up to 256 KiB waits for a slow reader, and a stalled one costs the guest's
 * driver 250 ms of waiting before what it prints is dropped.
 * The ring for that is allocated here: -ENOMEM.
 */
extern const struct virtio_console_host console_virtio_host;
int console_attach(struct console *c, struct virtio_console *virtio, struct err *err);
/* The size of the terminal that output or input is; false: none is known. */
bool console_size(const struct console *c, uint16_t *cols, uint16_t *rows);
/* The terminal may have another size now. From any thread. */
void console_resized(struct console *c);
/* User space has begun: whoever wants input can have it. From any thread. */
void console_guest_is_up(struct console *c);
/* Bytes of the virtio console that were dropped. Any thread. */
uint64_t console_dropped(const struct console *c);

/* At the end, no thread runs the loop any more: writes what is buffered, for `timeout_ms` at most
 */
void console_drain(struct console *c, int timeout_ms);
void console_destroy(struct console *c); /* NULL is fine */

/*
 * Raw mode (term.c), for one terminal per process. term_raw() remembers the settings of `fd`, and
 * they come back at term_restore(), at exit() and in handlers for fatal signals (SIGSEGV, SIGBUS,
 * SIGABRT, SIGILL, SIGFPE), which then run the action that was set before term_raw(). Not a tty: 0,
 * nothing is done, *is_tty = false. SIGTSTP/SIGCONT: the shell gets its settings back while we are
 * stopped and raw mode returns with SIGCONT, so some thread leaves both unblocked. While the
 * process is in the background the terminal is left alone. Signals that the owner handles itself
 * (SIGTERM, SIGINT, SIGHUP) are not touched: it calls term_restore() or exit().
 */
int term_raw(int fd, bool *is_tty, struct err *err);
void term_restore(void); /* async-signal-safe; does nothing when raw mode is off */

#endif
