//! Standard input and outputs of a container that is restored with a user namespace.

use crate::config::linux::IdMapping;
use crate::error::{Errno, Error, Result};
use crate::kernel::idmap;
use crate::plan::namespaces::IdMaps;
use crate::sys::mount::{self, MountAttr};
use crate::sys::{SysResult, file};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// The regular file that `fd` is open to, such that it belongs to the root of a user namespace with these mappings: CRIU
/// opens it once more as that user. It is so only through this descriptor, an id-mapped mount that nobody else reaches;
/// the file keeps its owner. `None` where CRIU does not need it or the file system cannot do it.
///
/// # Errors
/// The user namespace for the mapping cannot be made.
pub fn of_container_root(fd: RawFd, maps: &IdMaps) -> Result<Option<OwnedFd>> {
    let st = file::fstat(fd).map_err(|e| Error::sys("looking at standard input and outputs", e))?;
    if st.kind() != libc::S_IFREG {
        return Ok(None);
    }
    let to_root = |own: u32, ids: &[IdMapping]| {
        let host_id = IdMaps::host(ids, 0)?;
        Some(vec![IdMapping { container_id: own, host_id, size: 1 }])
    };
    let (Some(uids), Some(gids)) = (to_root(st.uid, &maps.uids), to_root(st.gid, &maps.gids)) else {
        return Ok(None);
    };
    let userns = idmap::user_namespace(&IdMaps { uids, gids })?;
    let mapped = || -> SysResult<OwnedFd> {
        let tree = mount::clone_tree(fd, c"", false, false)?;
        let userns_fd = userns.as_raw_fd() as u64;
        let attr = MountAttr { set: libc::MOUNT_ATTR_IDMAP, userns_fd, ..MountAttr::default() };
        mount::mount_setattr(tree.as_raw_fd(), false, &attr)?;
        Ok(tree)
    };
    match mapped() {
        Ok(tree) => Ok(Some(tree)),
        Err(Errno(libc::EINVAL | libc::EPERM | libc::ENOSYS)) => Ok(None),
        Err(e) => Err(Error::sys("giving standard input and outputs to container root", e)),
    }
}
