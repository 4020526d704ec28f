//! Writes kubeconfigs, complete in one file, so that a copy of the file is enough.

use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::pki::Identity;

/// A kubeconfig for one user of one server. JSON, which is YAML.
pub(crate) fn kubeconfig(server: &str, ca: &str, user: &str, identity: &Identity) -> Value {
    let Identity { cert, key } = identity;
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "rig",
        "clusters": [{"name": "rig", "cluster": {
            "server": server,
            "certificate-authority-data": STANDARD.encode(ca),
        }}],
        "users": [{"name": user, "user": {
            "client-certificate-data": STANDARD.encode(cert),
            "client-key-data": STANDARD.encode(key),
        }}],
        "contexts": [{"name": "rig", "context": {"cluster": "rig", "user": user}}],
    })
}

/// Writes a file that only its owner can read, as `kubectl` wants a file with a key in it.
pub(crate) fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())
}
