/* A narrow C shim over DPDK's inline functions.
 *
 * Rust sees one flat record per frame and never the layout of an mbuf, so this file is all that changes with a DPDK release. Every
 * function returns 0 (or a count) for success and a negative errno for failure. */
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_ip.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_tcp.h>
#define FG_BURST 32 /* frames of one call, at most; BURST in lib.rs */

enum { /* fg_frame.flags; FLAG_* in lib.rs */
	FG_CSUM_GOOD = 1, /* rx: the port found the IPv4 and the TCP/UDP checksum right */
	FG_CSUM_BAD = 2,  /* rx: it found one of them wrong */
	FG_SEGMENTED = 4, /* rx: the frame continues in further mbufs, `data` shows the first */
	FG_TX_CSUM = 8,   /* tx: the port fills in both checksums (TCP over IPv4 without options) */
	FG_VLAN = 16,     /* rx: the port has taken the tag off, which is in `vlan`; tx: it puts it on */
	FG_JOINED = 32,   /* tx: a TCP segment that goes on where the frame before ends; for fg_tx_burst_long */
};

struct fg_frame { /* Frame in lib.rs */
	void *mbuf;
	uint8_t *data;
	uint32_t rss;
	uint16_t len, room; /* `data` may grow to `room` bytes */
	uint16_t flags, vlan, head, unused; /* `head`: bytes that are free in front of `data` */
};
_Static_assert(sizeof(struct fg_frame) == 32, "Frame in lib.rs has the same layout");

enum { /* what a port can do for us; ABLE_* in lib.rs */
	FG_ABLE_RX_CSUM = 1,
	FG_ABLE_TX_CSUM = 2,
	FG_ABLE_SCATTER = 4,
	FG_ABLE_RSS = 8,
	FG_ABLE_TSO = 16,
	FG_ABLE_VLAN_STRIP = 32,
	FG_ABLE_VLAN_INSERT = 64,
	FG_ABLE_TX_IP_CSUM = 128,
};

struct fg_port_info { /* PortInfo in lib.rs */
	char driver[64];
	uint8_t mac[6];
	uint16_t mtu, queues_max;
	uint16_t tso_frame_max; /* how long what it cuts off may be, Ethernet header included */
	uint32_t able;
	uint16_t tso_mbufs_max, unused; /* of how many mbufs a long segment may be */
};
_Static_assert(sizeof(struct fg_port_info) == 84, "PortInfo in lib.rs has the same layout");
#define FG_RSS_KEY_BYTES 64 /* the longest key of a driver is 52 */

struct fg_port_stats { /* PortStats in lib.rs */
	uint64_t rx_packets, tx_packets, rx_bytes, tx_bytes, rx_missed, rx_errors, tx_errors, rx_no_mbuf;
};
#define FG_RX_CSUM (RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_TCP_CKSUM)
#define FG_TX_CSUM_CAPA (RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_CKSUM)
#define FG_TX_TSO_CAPA (RTE_ETH_TX_OFFLOAD_TCP_TSO | RTE_ETH_TX_OFFLOAD_TCP_CKSUM | RTE_ETH_TX_OFFLOAD_MULTI_SEGS)
static int last_error(void) { return rte_errno > 0 ? -rte_errno : -EIO; }

/* EAL and its threads. */
int fg_eal_init(int argc, char **argv) { return rte_eal_init(argc, argv) < 0 ? last_error() : 0; }
int fg_eal_cleanup(void) { return rte_eal_cleanup(); }
int fg_thread_register(void) { return rte_thread_register() < 0 ? last_error() : 0; }
void fg_thread_unregister(void) { rte_thread_unregister(); }
uint64_t fg_tsc_hz(void) { return rte_get_tsc_hz(); }

/* Memory. */
void *fg_pool_create(const char *name, uint32_t frames, uint32_t cache, uint16_t data_room)
{
	return rte_pktmbuf_pool_create(name, frames, cache, 0, data_room, SOCKET_ID_ANY);
}
uint32_t fg_pool_in_use(const void *pool) { return rte_mempool_in_use_count(pool); }
void fg_pool_free(void *pool) { rte_mempool_free(pool); }

static void describe(struct rte_mbuf *m, struct fg_frame *f)
{
	uint16_t room = m->data_len + rte_pktmbuf_tailroom(m);
	*f = (struct fg_frame){m, rte_pktmbuf_mtod(m, uint8_t *), m->hash.rss, m->data_len, room, 0, m->vlan_tci, m->data_off, 0};
}

int fg_alloc_bulk(void *pool, struct fg_frame *out, uint16_t n)
{
	struct rte_mbuf *m[FG_BURST];
	if (n > FG_BURST || rte_pktmbuf_alloc_bulk(pool, m, n) != 0)
		return -ENOMEM;
	for (uint16_t i = 0; i < n; i++)
		describe(m[i], &out[i]);
	return 0;
}

void fg_free_bulk(void **mbufs, uint16_t n) { rte_pktmbuf_free_bulk((struct rte_mbuf **)mbufs, n); }

/* `devargs`: a PCI address or a virtual device with its arguments; `name`: what DPDK calls it. EAL has opened the cards of its command line. */
int fg_dev_probe(const char *devargs, const char *name, uint16_t *port)
{
	int ret = rte_eth_dev_get_port_by_name(name, port);
	if (ret == 0)
		return 0;
	ret = rte_dev_probe(devargs);
	return ret < 0 ? ret : rte_eth_dev_get_port_by_name(name, port);
}

static uint32_t able(const struct rte_eth_dev_info *info)
{
	uint32_t able = 0;
	if ((info->rx_offload_capa & FG_RX_CSUM) == FG_RX_CSUM)
		able |= FG_ABLE_RX_CSUM;
	if ((info->tx_offload_capa & FG_TX_CSUM_CAPA) == FG_TX_CSUM_CAPA)
		able |= FG_ABLE_TX_CSUM;
	if (info->tx_offload_capa & RTE_ETH_TX_OFFLOAD_IPV4_CKSUM)
		able |= FG_ABLE_TX_IP_CSUM;
	if (info->rx_offload_capa & RTE_ETH_RX_OFFLOAD_SCATTER)
		able |= FG_ABLE_SCATTER;
	if ((info->flow_type_rss_offloads & RTE_ETH_RSS_NONFRAG_IPV4_TCP) && info->reta_size != 0)
		able |= FG_ABLE_RSS;
	if ((info->tx_offload_capa & FG_TX_TSO_CAPA) == FG_TX_TSO_CAPA)
		able |= FG_ABLE_TSO;
	if (info->rx_offload_capa & RTE_ETH_RX_OFFLOAD_VLAN_STRIP)
		able |= FG_ABLE_VLAN_STRIP;
	/* net_virtio and net_virtio_user say so too, but do it in a preparation that we don't call: a frame would leave without its tag. */
	if ((info->tx_offload_capa & RTE_ETH_TX_OFFLOAD_VLAN_INSERT) && strncmp(info->driver_name, "net_virtio", 10) != 0)
		able |= FG_ABLE_VLAN_INSERT;
	return able;
}

int fg_port_info(uint16_t port, struct fg_port_info *out)
{
	struct rte_eth_dev_info info;
	struct rte_ether_addr mac;
	int ret;
	memset(out, 0, sizeof(*out));
	if ((ret = rte_eth_dev_info_get(port, &info)) != 0 || (ret = rte_eth_macaddr_get(port, &mac)) != 0
	    || (ret = rte_eth_dev_get_mtu(port, &out->mtu)) != 0)
		return ret;
	strncpy(out->driver, info.driver_name, sizeof(out->driver) - 1);
	memcpy(out->mac, mac.addr_bytes, sizeof(out->mac));
	out->queues_max = RTE_MIN(info.max_rx_queues, info.max_tx_queues);
	out->able = able(&info);
	out->tso_mbufs_max = info.tx_desc_lim.nb_seg_max;
	/* net_tap counts the Ethernet header in, and takes no long segment otherwise. */
	out->tso_frame_max = strcmp(info.driver_name, "net_tap") == 0 ? out->mtu : UINT16_MAX;
	return 0;
}

/* The hash of a flow is the same in both directions by a key that repeats itself every two bytes; rss.rs has the same. */
static void rss_of(const struct rte_eth_dev_info *info, uint8_t key[FG_RSS_KEY_BYTES], struct rte_eth_rss_conf *out)
{
	uint8_t len = info->hash_key_size != 0 ? RTE_MIN(info->hash_key_size, FG_RSS_KEY_BYTES) : 40;
	for (uint8_t i = 0; i < FG_RSS_KEY_BYTES; i++)
		key[i] = i & 1 ? 0x5a : 0x6d;
	*out = (struct rte_eth_rss_conf){key, len, info->flow_type_rss_offloads & (RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP)};
}

/* net_virtio agrees with the other side that it drops all tags that were not named, whether it is asked to or not. */
static bool keeps_vlans_out(const struct rte_eth_dev_info *info)
{
	return (info->rx_offload_capa & RTE_ETH_RX_OFFLOAD_VLAN_FILTER) && strcmp(info->driver_name, "net_virtio") == 0;
}

/* Queue pairs with `use` of what the port is able to do. */
int fg_port_configure(uint16_t port, uint16_t queues, uint16_t descriptors, uint16_t mtu, void *pool, uint32_t use)
{
	struct rte_eth_dev_info info;
	struct rte_eth_conf conf = {0};
	uint8_t key[FG_RSS_KEY_BYTES];
	uint16_t rx = descriptors, tx = descriptors, now;
	int ret = rte_eth_dev_info_get(port, &info);
	if (ret != 0)
		return ret;
	use &= able(&info);
	if (use & FG_ABLE_RX_CSUM)
		conf.rxmode.offloads |= FG_RX_CSUM;
	if (use & FG_ABLE_SCATTER)
		conf.rxmode.offloads |= RTE_ETH_RX_OFFLOAD_SCATTER;
	if (use & FG_ABLE_VLAN_STRIP)
		conf.rxmode.offloads |= RTE_ETH_RX_OFFLOAD_VLAN_STRIP;
	if (use & FG_ABLE_VLAN_INSERT)
		conf.txmode.offloads |= RTE_ETH_TX_OFFLOAD_VLAN_INSERT;
	if (keeps_vlans_out(&info))
		conf.rxmode.offloads |= RTE_ETH_RX_OFFLOAD_VLAN_FILTER;
	if (use & FG_ABLE_TX_CSUM)
		conf.txmode.offloads |= FG_TX_CSUM_CAPA;
	if (use & FG_ABLE_TSO)
		conf.txmode.offloads |= FG_TX_TSO_CAPA | (info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_IPV4_CKSUM);
	if (queues > 1 && (use & FG_ABLE_RSS)) {
		conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		rss_of(&info, key, &conf.rx_adv_conf.rss_conf);
	}
	ret = rte_eth_dev_configure(port, queues, queues, &conf);
	if (ret == 0)
		ret = rte_eth_dev_adjust_nb_rx_tx_desc(port, &rx, &tx);
	/* Only when it differs: on net_af_xdp this changes the kernel's interface, and stays. */
	if (ret == 0 && rte_eth_dev_get_mtu(port, &now) == 0 && now != mtu)
		ret = rte_eth_dev_set_mtu(port, mtu);
	for (uint16_t q = 0; ret == 0 && q < queues; q++)
		if ((ret = rte_eth_rx_queue_setup(port, q, rx, SOCKET_ID_ANY, NULL, pool)) == 0)
			ret = rte_eth_tx_queue_setup(port, q, tx, SOCKET_ID_ANY, NULL);
	return ret;
}

int fg_port_start(uint16_t port)
{
	int ret = rte_eth_dev_start(port);
	/* Neighbours of IPv6 are asked for by groups. A driver that knows no such switch takes all of them. */
	if (ret == 0)
		(void)rte_eth_allmulticast_enable(port);
	return ret;
}

/* Whether a port hashes TCP by this key. */
static int hashes_by(uint16_t port, const struct rte_eth_rss_conf *want)
{
	uint8_t key[FG_RSS_KEY_BYTES] = {0};
	struct rte_eth_rss_conf now = {key, want->rss_key_len, 0};
	int ret = rte_eth_dev_rss_hash_conf_get(port, &now);
	if (ret != 0)
		return ret;
	return memcmp(key, want->rss_key, want->rss_key_len) == 0 && (now.rss_hf & RTE_ETH_RSS_NONFRAG_IPV4_TCP) ? 0 : -EPROTO;
}

/* Has a started port spread TCP over its queues, entry i of its table to queue i % queues. Answers the entries, or why it can't: drivers name
 * RSS that have none, so the key is read back, and the table is written. */
int fg_port_spread(uint16_t port, uint16_t queues)
{
	struct rte_eth_rss_reta_entry64 table[RTE_ETH_RSS_RETA_SIZE_512 / RTE_ETH_RETA_GROUP_SIZE];
	struct rte_eth_dev_info info;
	struct rte_eth_rss_conf want;
	uint8_t key[FG_RSS_KEY_BYTES];
	int ret = rte_eth_dev_info_get(port, &info);
	if (ret != 0)
		return ret;
	if (queues < 2 || !(able(&info) & FG_ABLE_RSS) || info.reta_size > RTE_ETH_RSS_RETA_SIZE_512)
		return -ENOTSUP;
	rss_of(&info, key, &want);
	/* Some take no key before they start. */
	if ((ret = hashes_by(port, &want)) == -EPROTO && rte_eth_dev_rss_hash_update(port, &want) == 0)
		ret = hashes_by(port, &want);
	if (ret != 0)
		return ret;
	for (uint16_t i = 0; i < info.reta_size; i++) {
		table[i / RTE_ETH_RETA_GROUP_SIZE].mask = ~0ull;
		table[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE] = i % queues;
	}
	ret = rte_eth_dev_rss_reta_update(port, table, info.reta_size);
	return ret != 0 ? ret : info.reta_size;
}

/* Has a started port let a VLAN in, where it keeps out those that it was not told of. */
int fg_port_admit_vlan(uint16_t port, uint16_t id)
{
	struct rte_eth_dev_info info;
	int ret = rte_eth_dev_info_get(port, &info);
	return ret != 0 || !keeps_vlans_out(&info) ? ret : rte_eth_dev_vlan_filter(port, id, 1);
}

/* For a port that nobody polls meanwhile. */
int fg_port_restart(uint16_t port)
{
	int ret = rte_eth_dev_stop(port);
	return ret != 0 ? ret : rte_eth_dev_start(port);
}

int fg_port_close(uint16_t port)
{
	struct rte_eth_dev_info info;
	int ret = rte_eth_dev_info_get(port, &info);
	if (ret != 0)
		return ret;
	(void)rte_eth_dev_stop(port); /* a port that never started is closed all the same */
	return (ret = rte_eth_dev_close(port)) != 0 ? ret : rte_dev_remove(info.device);
}

/* Whether the driver of a started port puts a frame into several buffers. One that does not tell puts it into one. */
int fg_port_scatters(uint16_t port)
{
	struct rte_eth_rxq_info info;
	return rte_eth_rx_queue_info_get(port, 0, &info) == 0 && info.scattered_rx;
}

/* Whether the port has a link now, 0 or 1. Cards take seconds to agree on one. */
int fg_port_link_up(uint16_t port)
{
	struct rte_eth_link link;
	int ret = rte_eth_link_get_nowait(port, &link);
	return ret != 0 ? ret : link.link_status == RTE_ETH_LINK_UP;
}

int fg_port_stats(uint16_t port, struct fg_port_stats *out)
{
	struct rte_eth_stats s;
	if (rte_eth_stats_get(port, &s) != 0)
		return -ENODEV;
	*out = (struct fg_port_stats){s.ipackets, s.opackets, s.ibytes, s.obytes, s.imissed, s.ierrors, s.oerrors, s.rx_nombuf};
	return 0;
}

static uint16_t rx_flags(const struct rte_mbuf *m)
{
	uint64_t ip = m->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK, l4 = m->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK;
	uint16_t flags = m->nb_segs > 1 ? FG_SEGMENTED : 0;
	if (m->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED)
		flags |= FG_VLAN;
	if (ip == RTE_MBUF_F_RX_IP_CKSUM_BAD || l4 == RTE_MBUF_F_RX_L4_CKSUM_BAD)
		flags |= FG_CSUM_BAD;
	else if (ip == RTE_MBUF_F_RX_IP_CKSUM_GOOD && l4 == RTE_MBUF_F_RX_L4_CKSUM_GOOD)
		flags |= FG_CSUM_GOOD;
	return flags;
}

uint16_t fg_rx_burst(uint16_t port, uint16_t queue, struct fg_frame *out, uint16_t n)
{
	struct rte_mbuf *m[FG_BURST];
	uint16_t got = rte_eth_rx_burst(port, queue, m, RTE_MIN(n, FG_BURST));
	for (uint16_t i = 0; i < got; i++) {
		describe(m[i], &out[i]);
		out[i].flags = rx_flags(m[i]);
	}
	return got;
}

/* All of a frame that is spread over several mbufs, if it fits. Answers its length. */
uint32_t fg_gather(const void *mbuf, uint8_t *out, uint32_t room)
{
	const struct rte_mbuf *m = mbuf;
	uint32_t len = m->pkt_len;
	if (len > room)
		return 0;
	for (; m != NULL && m->data_len <= room; m = m->next) {
		memcpy(out, rte_pktmbuf_mtod(m, const uint8_t *), m->data_len);
		out += m->data_len, room -= m->data_len;
	}
	return len;
}

/* The TCP segment in a frame, over IPv4 without options: lengths and flags for the port. */
static struct rte_tcp_hdr *segment_of(struct rte_mbuf *m, struct rte_ipv4_hdr **ip)
{
	const struct rte_ether_hdr *ether = rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);
	bool is_tagged = ether->ether_type == RTE_BE16(RTE_ETHER_TYPE_VLAN);
	uint16_t l2_len = RTE_ETHER_HDR_LEN + (is_tagged ? sizeof(struct rte_vlan_hdr) : 0);
	*ip = rte_pktmbuf_mtod_offset(m, struct rte_ipv4_hdr *, l2_len);
	struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)(*ip + 1);
	m->l2_len = l2_len, m->l3_len = sizeof(**ip);
	m->l4_len = (tcp->data_off >> 4) * 4;
	return tcp;
}

static void offload_checksums(struct rte_mbuf *m)
{
	struct rte_ipv4_hdr *ip;
	struct rte_tcp_hdr *tcp = segment_of(m, &ip);
	m->ol_flags |= RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM | RTE_MBUF_F_TX_TCP_CKSUM;
	ip->hdr_checksum = 0;
	tcp->cksum = rte_ipv4_phdr_cksum(ip, m->ol_flags);
}

/* The mbuf as its frame is described, whatever has become of it on a way out that it did not get to the end of. */
static struct rte_mbuf *mbuf_of(const struct fg_frame *frame)
{
	struct rte_mbuf *m = frame->mbuf;
	m->data_off = frame->data - (uint8_t *)m->buf_addr;
	m->data_len = m->pkt_len = frame->len;
	m->ol_flags = 0; /* a received mbuf that is sent back carries the flags of its way in */
	if (frame->flags & FG_TX_CSUM)
		offload_checksums(m);
	if (frame->flags & FG_VLAN) {
		m->vlan_tci = frame->vlan;
		m->ol_flags |= RTE_MBUF_F_TX_VLAN;
	}
	return m;
}

/* A driver that puts tags on by itself may have done so before it found that it has no room: the addresses go back to where they were. */
static void take_tag_out(const struct rte_mbuf *m, const struct fg_frame *frame)
{
	const uint8_t *start = rte_pktmbuf_mtod(m, const uint8_t *);
	if ((frame->flags & FG_VLAN) && start + sizeof(struct rte_vlan_hdr) == frame->data)
		memmove(frame->data, start, 2 * RTE_ETHER_ADDR_LEN);
}

/* Sends what the ring takes and says how many; the rest stays the caller's. */
uint16_t fg_tx_burst(uint16_t port, uint16_t queue, const struct fg_frame *frames, uint16_t n)
{
	struct rte_mbuf *m[FG_BURST];
	n = RTE_MIN(n, FG_BURST);
	for (uint16_t i = 0; i < n; i++)
		m[i] = mbuf_of(&frames[i]);
	uint16_t sent = rte_eth_tx_burst(port, queue, m, n);
	for (uint16_t i = sent; i < n; i++)
		take_tag_out(m[i], &frames[i]);
	return sent;
}

/* What a long segment was made of, if the port does not take it. */
struct joined {
	uint16_t first, count; /* its place in the burst */
	uint8_t headers[RTE_ETHER_HDR_LEN + sizeof(struct rte_ipv4_hdr) + 60]; /* and what is behind them; no segment that is joined is shorter */
};

/* Puts segments one behind the other, under the headers of the first; the port cuts them apart again. */
static struct rte_mbuf *join(const struct fg_frame *frames, struct joined *as, bool port_fills_in_ip)
{
	struct rte_mbuf *m = mbuf_of(&frames[as->first]), *last = m;
	struct rte_ipv4_hdr *ip;
	struct rte_tcp_hdr *tcp = segment_of(m, &ip);
	const uint16_t headers = m->l2_len + m->l3_len + m->l4_len;
	memcpy(as->headers, rte_pktmbuf_mtod(m, const uint8_t *), sizeof(as->headers));
	m->tso_segsz = m->data_len - headers;
	for (uint16_t i = 1; i < as->count; i++) {
		struct rte_mbuf *next = mbuf_of(&frames[as->first + i]);
		next->data_off += headers, next->data_len -= headers;
		m->pkt_len += next->data_len;
		last->next = next, last = next;
	}
	m->nb_segs = as->count;
	/* Of what is cut off, the last has the flags that the others lack. */
	tcp->tcp_flags |= frames[as->first + as->count - 1].data[headers - m->l4_len + offsetof(struct rte_tcp_hdr, tcp_flags)];
	ip->total_length = rte_cpu_to_be_16(m->pkt_len - m->l2_len);
	m->ol_flags = (m->ol_flags & RTE_MBUF_F_TX_VLAN) | RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_TCP_CKSUM;
	ip->hdr_checksum = 0;
	if (port_fills_in_ip)
		m->ol_flags |= RTE_MBUF_F_TX_IP_CKSUM;
	else
		ip->hdr_checksum = rte_ipv4_cksum(ip);
	tcp->cksum = rte_ipv4_phdr_cksum(ip, m->ol_flags);
	return m;
}

static void part(const struct fg_frame *frames, const struct joined *as)
{
	memcpy(frames[as->first].data, as->headers, sizeof(as->headers));
	for (uint16_t i = 0; i < as->count; i++) {
		struct rte_mbuf *m = frames[as->first + i].mbuf;
		m->next = NULL, m->nb_segs = 1;
	}
}

/* The same for a port that cuts long segments: frames with FG_JOINED leave as one with the frame before. Answers how many frames left; 0 may
 * mean that the port takes no long segment. */
uint16_t fg_tx_burst_long(uint16_t port, uint16_t queue, const struct fg_frame *frames, uint16_t n, int port_fills_in_ip)
{
	struct rte_mbuf *m[FG_BURST];
	struct joined as[FG_BURST];
	uint16_t packets = 0, sent = 0, frames_sent = 0;
	n = RTE_MIN(n, FG_BURST);
	for (uint16_t i = 0; i < n; i += as[packets++].count) {
		struct joined *now = &as[packets];
		for (now->first = i, now->count = 1; i + now->count < n && frames[i + now->count].flags & FG_JOINED;)
			now->count++;
		m[packets] = now->count > 1 ? join(frames, now, port_fills_in_ip) : mbuf_of(&frames[i]);
	}
	/* Only drivers that have to see to long segments beforehand have this. */
	sent = rte_eth_tx_prepare(port, queue, m, packets);
	sent = rte_eth_tx_burst(port, queue, m, sent);
	for (uint16_t k = 0; k < packets; k++)
		if (k < sent)
			frames_sent += as[k].count;
		else if (as[k].count > 1)
			part(frames, &as[k]);
		else
			take_tag_out(m[k], &frames[as[k].first]);
	return frames_sent;
}
