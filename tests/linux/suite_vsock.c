/* SPDX-License-Identifier: Apache-2.0 */
/* Cases: vsock under Linux's driver, with the services of vsock_peer.h on the host. */
#include "suite.h"

#include <string.h>
#include <unistd.h>

#include "vsock_peer.h"

#define BYTES (4ll << 20)

void case_vsock(struct test *t)
{
	const char *path = scratch_path(t, "vsock");
	const struct vm_request req = {
	    .args = {"--vsock", text(t, "cid=77,uds=%s", path)},
	    .checks = text(t, "vsock=77,%lld", BYTES),
	    .limit_s = 60,
	};
	pid_t peer = vsock_peer_start(path);
	struct vm vm;

	if (peer < 0) {
		wrong(t, "no services: %s", strerror(-peer));
		return;
	}
	vm_start(t, &vm, &req);
	vm_finish(&vm, 0);
	vsock_peer_stop(peer);
	if (vm_number(&vm, "devices.0.to_guest_bytes") < 2 * BYTES ||
	    vm_number(&vm, "devices.0.to_host_bytes") < 2 * BYTES)
		wrong(t, "statistics: %lld bytes to the guest, %lld to the host",
		      vm_number(&vm, "devices.0.to_guest_bytes"),
		      vm_number(&vm, "devices.0.to_host_bytes"));
	if (vm_number(&vm, "devices.0.from_host") != 3)
		wrong(t, "%lld connections from the host", vm_number(&vm, "devices.0.from_host"));
	if (vm_number(&vm, "devices.0.violations") > 0 || vm_number(&vm, "devices.0.refused") > 0)
		wrong(t, "the stock driver did something that the device refused");
	if (access(path, F_OK) == 0)
		wrong(t, "the socket is still there");
	vm_free(&vm);
}
