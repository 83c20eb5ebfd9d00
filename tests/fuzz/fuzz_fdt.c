/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device tree of a machine whose numbers are the input's: a valid tree that has all of them, or
 * an error with a reason.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include <asm/bootparam.h>
#include <libfdt.h>

#include "minivm/config.h"
#include "minivm/fdt.h"
#include "input.h"

static uint8_t low[0x100000];

static unsigned count_nodes(const void *fdt, const char *path, const char *prefix)
{
	int child, parent = fdt_path_offset(fdt, path);
	unsigned n = 0;

	assert(parent >= 0);
	fdt_for_each_subnode(child, fdt, parent)
	{
		n += strncmp(fdt_get_name(fdt, child, NULL), prefix, strlen(prefix)) == 0;
	}
	return n;
}

static void check_device(const void *fdt, int node, const struct boot_virtio *want)
{
	const fdt32_t *reg = fdt_getprop(fdt, node, "reg", NULL);
	const fdt32_t *interrupts = fdt_getprop(fdt, node, "interrupts", NULL);

	assert(reg && fdt32_to_cpu(reg[0]) == want->base);
	assert(interrupts && fdt32_to_cpu(interrupts[0]) == want->gsi);
}

static void check_tree(const struct fdt_request *req, gpa_t setup_data)
{
	const struct setup_data *header = (const void *)(low + setup_data.v);
	const void *fdt = header->data;
	int node = -1;

	assert(header->type == SETUP_DTB && header->next == 0);
	assert(header->len <= FDT_MAX - sizeof(*header));
	assert(fdt_check_full(fdt, header->len) == 0);
	assert(count_nodes(fdt, "/cpus", "cpu@") == req->cpus);
	assert(count_nodes(fdt, "/soc", "virtio@") == req->virtio_count);
	for (unsigned i = 0; i < req->virtio_count; i++) {
		node = fdt_node_offset_by_compatible(fdt, node, "virtio,mmio");
		assert(node >= 0);
		check_device(fdt, node, &req->virtio[i]);
	}
}

static bool has_double(const struct fdt_request *req)
{
	for (unsigned i = 0; i < req->virtio_count; i++) {
		for (unsigned k = 0; k < i; k++) {
			if (req->virtio[i].base == req->virtio[k].base)
				return true;
		}
	}
	return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct guest_mem mem = {.count = 1, .region = {{GPA(0), next_number(&in, 1) << 12, low}}};
	struct fdt_request req = {.cpus = next_number(&in, 1), .virtio_count = next_number(&in, 1)};
	struct err err = {0};
	gpa_t setup_data = GPA(0);
	int rc;

	/* Apart from each other when the input ends early. */
	for (uint32_t i = 0; i < BOOT_VIRTIO_MAX; i++)
		req.virtio[i] =
		    (struct boot_virtio){next_number(&in, 4) ^ i << 12, next_number(&in, 4)};
	memset(low + FDT_GPA, 0, FDT_MAX);
	rc = fdt_write(&mem, &req, &setup_data, &err);
	if (rc == 0)
		check_tree(&req, setup_data);
	else if (req.cpus - 1 < CONFIG_CPUS_MAX && req.virtio_count <= BOOT_VIRTIO_MAX &&
		 !has_double(&req))
		assert(rc == -EFAULT && mem.region[0].len < FDT_GPA + FDT_MAX);
	else
		assert(rc == -EINVAL && err.text[0]);
	return 0;
}
