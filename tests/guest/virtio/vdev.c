/* SPDX-License-Identifier: Apache-2.0 */
/* Discovery and initialisation as VIRTIO 1.2 §3.1.1 numbers its steps. */
#include "vdev.h"

#include "rt.h"
#include "time.h"

#define RESET_MS 1000

void vreg_set64(const struct vdev *v, unsigned reg, uint64_t value)
{
	vreg_set(v, reg, (uint32_t)value);
	vreg_set(v, reg + 4, (uint32_t)(value >> 32));
}

/* virtio_mmio.device=<size>[KMG]@<base>:<irq>[:<id>], as Linux takes it */
static bool parse_word(const char *word, struct vdev *v)
{
	parse_number(word, &word);
	if (*word == 'K' || *word == 'M' || *word == 'G')
		word++;
	if (*word++ != '@')
		return false;
	v->base = parse_number(word, &word);
	if (*word++ != ':')
		return false;
	v->gsi = (unsigned)parse_number(word, &word);
	return *word == '\0' || *word == ' ' || *word == ':';
}

bool vdev_find(uint32_t device_id, unsigned n, struct vdev *out)
{
	const char *word;

	for (unsigned i = 0; (word = cmdline_word("virtio_mmio.device", i)); i++) {
		struct vdev v = {.base = 0};

		if (!parse_word(word, &v) || vreg(&v, VREG_MAGIC) != VDEV_MAGIC)
			continue;
		v.device_id = vreg(&v, VREG_DEVICE_ID);
		if (v.device_id == 0 || (device_id && v.device_id != device_id) || n-- > 0)
			continue;
		*out = v;
		return true;
	}
	return false;
}

bool vdev_reset(struct vdev *v)
{
	uint64_t end = deadline_ms(RESET_MS);

	v->features = 0;
	vreg_set(v, VREG_STATUS, 0);
	while (vdev_status(v) != 0) {
		if (expired(end))
			return false;
		cpu_pause();
	}
	return true;
}

uint64_t vdev_offered(const struct vdev *v)
{
	uint64_t f;

	vreg_set(v, VREG_DEVICE_FEATURES_SEL, 1);
	f = (uint64_t)vreg(v, VREG_DEVICE_FEATURES) << 32;
	vreg_set(v, VREG_DEVICE_FEATURES_SEL, 0);
	return f | vreg(v, VREG_DEVICE_FEATURES);
}

void vdev_accept(const struct vdev *v, uint64_t features)
{
	vreg_set(v, VREG_DRIVER_FEATURES_SEL, 1);
	vreg_set(v, VREG_DRIVER_FEATURES, (uint32_t)(features >> 32));
	vreg_set(v, VREG_DRIVER_FEATURES_SEL, 0);
	vreg_set(v, VREG_DRIVER_FEATURES, (uint32_t)features);
}

void vdev_add_status(const struct vdev *v, uint8_t bits)
{
	vreg_set(v, VREG_STATUS, (uint32_t)vdev_status(v) | bits);
}

bool vdev_negotiate(struct vdev *v, uint64_t want)
{
	if (!vdev_reset(v))
		return false;
	vdev_add_status(v, VSTATUS_ACKNOWLEDGE);
	vdev_add_status(v, VSTATUS_DRIVER);
	v->features = vdev_offered(v) & (want | VF_VERSION_1);
	vdev_accept(v, v->features);
	vdev_add_status(v, VSTATUS_FEATURES_OK);
	return vdev_status(v) & VSTATUS_FEATURES_OK;
}
