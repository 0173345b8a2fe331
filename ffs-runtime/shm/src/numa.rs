//! Memory near a GPU: where a machine has more than one NUMA node, the memory of rings is taken from the GPU's.

use std::io;

/// The nodes that have memory and CPUs in use, as in `0-1,3`.
const ONLINE: &str = "/sys/devices/system/node/online";
/// Prefer a node, and take another when it is full (`linux/mempolicy.h`).
const MPOL_PREFERRED: libc::c_int = 1;

/// Prefers memory of NUMA node `node` for what this thread is the first to touch from now on: the rings that it makes,
/// and what it loads. Says whether it does so: not where the machine has one node alone, or none of that number.
///
/// # Errors
/// The system's, such as EPERM in a container that may not choose.
pub fn prefer_node(node: u32) -> io::Result<bool> {
    // Without the file there is one node.
    let online = std::fs::read_to_string(ONLINE).unwrap_or_default();
    let Some(mask) = mask(&nodes(&online), node) else {
        return Ok(false);
    };
    let bits = mask.len() * libc::c_ulong::BITS as usize;
    // SAFETY: the kernel reads `bits` bits from `mask`, which has them; it counts one more than there are.
    let status = unsafe { libc::syscall(libc::SYS_set_mempolicy, MPOL_PREFERRED, mask.as_ptr(), bits + 1) };
    if status == 0 {
        Ok(true)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The numbers of a list as the kernel writes it; what is none is passed over.
fn nodes(list: &str) -> Vec<u32> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse::<u32>().ok()?..=last.trim().parse().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}

/// The bit of `node`, if there is a choice and it is among `online`.
fn mask(online: &[u32], node: u32) -> Option<Vec<libc::c_ulong>> {
    if online.len() < 2 || !online.contains(&node) {
        return None;
    }
    let (word, bit) = (node / libc::c_ulong::BITS, node % libc::c_ulong::BITS);
    let mut mask = vec![0; word as usize + 1];
    mask[word as usize] = 1 << bit;
    Some(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_nodes_is_read_as_the_kernel_writes_it() {
        assert_eq!(nodes("0\n"), [0]);
        assert_eq!(nodes("0-1,3,6-8\n"), [0, 1, 3, 6, 7, 8]);
        assert_eq!(nodes(""), [] as [u32; 0]);
        assert_eq!(nodes("x,2-,1"), [1]);
    }

    #[test]
    fn there_is_a_preference_only_where_there_is_a_choice_and_the_node_is_one_of_it() {
        assert_eq!(mask(&[0], 0), None);
        assert_eq!(mask(&[], 0), None);
        assert_eq!(mask(&[0, 1], 2), None);
        assert_eq!(mask(&[0, 1], 1), Some(vec![2]));
        assert_eq!(mask(&[0, 70], 70), Some(vec![0, 1 << 6]));
    }

    #[test]
    #[cfg(not(miri))]
    fn a_node_that_is_not_there_is_no_error() {
        assert!(!prefer_node(4_000_000).unwrap());
    }
}
