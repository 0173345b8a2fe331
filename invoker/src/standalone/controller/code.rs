//! Where an action's code is kept: in the document while it is small, else as an attachment of it.
//! `AttachmentSupport.scala`.

use super::Refusal;
use crate::store::{Database, Store};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use proto::whisk::action::ActionDocument;
use proto::whisk::exec::{Attachment, Code, Place, is_base64};
use sha2::{Digest, Sha256};

/// Code below this many bytes is kept in the attachment's name (P-49).
const INLINE: usize = 16 << 10;

const BINARY: &str = "application/octet-stream";
const TEXT: &str = "text/plain; charset=UTF-8";

/// What an action's code becomes in its document.
pub(super) struct Attached {
    pub(super) attachment: Attachment,
    /// Name and bytes of what the document does not hold itself.
    pub(super) beside: Option<(String, Vec<u8>)>,
}

/// Takes code as a client gives it: text, or base64 of a zip.
pub(super) fn attach(code: &str) -> Result<Attached, Refusal> {
    let binary = is_base64(code.trim());
    let bytes = match binary {
        // The text looks like base64, but may have bits that mean nothing.
        true => STANDARD.decode(code.trim()).map_err(Refusal::malformed)?,
        false => code.as_bytes().to_vec(),
    };
    let attachment_type = if binary { BINARY } else { TEXT }.to_owned();
    if bytes.len() < INLINE {
        let digest: String = Sha256::digest(&bytes)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let attachment = Attachment {
            attachment_name: format!("mem:{}", URL_SAFE.encode(&bytes)),
            attachment_type,
            digest: Some(format!("sha256-{digest}")),
            length: u64::try_from(bytes.len()).ok(),
        };
        return Ok(Attached {
            attachment,
            beside: None,
        });
    }
    let name = uuid::Uuid::new_v4().to_string();
    let attachment = Attachment {
        attachment_name: format!("couch:{name}"),
        attachment_type,
        digest: None,
        length: None,
    };
    Ok(Attached {
        attachment,
        beside: Some((name, bytes)),
    })
}

/// The code of an action as a client gave it; none for a blackbox without code, or where it got lost.
pub(super) async fn detach(store: &dyn Store, action: &ActionDocument) -> Result<Option<String>, Refusal> {
    let attachment = match action.exec.code() {
        None => return Ok(None),
        Some(Code::Inline(text)) => return Ok(Some(text.clone())),
        Some(Code::Attachment(attachment)) => attachment,
    };
    let bytes = match attachment.place() {
        Place::Name(text) => URL_SAFE.decode(text).ok(),
        Place::Document(name) => store.attachment(Database::Entity, &action.id, None, name).await?,
        Place::Store { .. } => None,
    };
    let binary = action.exec.is_binary();
    Ok(bytes.map(|bytes| match binary {
        true => STANDARD.encode(&bytes),
        false => String::from_utf8_lossy(&bytes).into_owned(),
    }))
}
