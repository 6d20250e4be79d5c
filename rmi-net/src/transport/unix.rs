//! Unix sockets: for processes of one user on one machine.
//!
//! The socket's file is made with mode 0600, so nobody else can connect, and removed when the listener is dropped. A
//! file that a dead process left behind is replaced; one that somebody listens on, or that is no socket, is not.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

use crate::address::Address;
use crate::seam::{BoxFuture, Listener, Stream};

pub(super) async fn dial(path: &Path) -> io::Result<Stream> {
    Ok(stream(UnixStream::connect(path).await?, path))
}

pub(super) async fn listen(path: &Path) -> io::Result<(Box<dyn Listener>, Address)> {
    if let Ok(metadata) = fs::symlink_metadata(path) {
        if !metadata.file_type().is_socket() {
            let message = "there is a file of that name that is no socket: remove it or choose another path";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        if UnixStream::connect(path).await.is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
    }
    // Made under another name and renamed when its mode is right: nobody else can connect in between.
    let mut made_at = path.as_os_str().to_owned();
    made_at.push(format!(".{}", std::process::id()));
    let _ = fs::remove_file(&made_at);
    let listener = UnixListener::bind(&made_at)?;
    let renamed = fs::set_permissions(&made_at, fs::Permissions::from_mode(0o600))
        .and_then(|()| fs::rename(&made_at, path))
        .and_then(|()| fs::symlink_metadata(path));
    match renamed {
        Ok(metadata) => {
            let unix = Unix { listener, inode: metadata.ino(), path: path.to_owned() };
            Ok((Box::new(unix), Address::Unix(path.to_owned())))
        }
        Err(error) => {
            let _ = fs::remove_file(&made_at);
            Err(error)
        }
    }
}

struct Unix {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
}

impl Listener for Unix {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async { Ok(stream(self.listener.accept().await?.0, &self.path)) })
    }
}

impl Drop for Unix {
    fn drop(&mut self) {
        // Only our own file: another process may have put its socket there by now.
        if fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn stream(stream: UnixStream, path: &Path) -> Stream {
    let (reader, writer) = stream.into_split();
    Stream::new(reader, writer, path.display().to_string())
}
