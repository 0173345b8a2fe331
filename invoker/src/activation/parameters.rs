//! Locked arguments: values that the controller has encrypted, opened before they reach a container.
//!
//! Source: `ParameterEncryption.scala`, `ContainerProxy.scala`; contract 4.3.

use crate::config::ParameterKeys;
use aes_gcm::aead::consts::{U12, U16, U128};
use aes_gcm::aead::{Aead, KeyInit, Nonce};
use aes_gcm::aes::{Aes128, Aes256};
use aes_gcm::{AesGcm, aead};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proto::json::Json;
use proto::whisk::activation_message::ActivationMessage;
use std::collections::BTreeMap;

/// AES in GCM mode with nonces as OpenWhisk has them (D-37).
type Gcm128 = AesGcm<Aes128, U12, U16>;
type Gcm256 = AesGcm<Aes256, U128, U16>;

/// Why an argument stays locked. Its value is not in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("argument {name:?}, locked with {scheme}, cannot be opened: {reason}")]
pub struct Locked {
    pub name: String,
    pub scheme: String,
    reason: &'static str,
}

/// Opens the locked arguments of a message. An unknown scheme, one without a key, and anything but a text
/// stay as they are, and so do arguments that are an array (D-35, D-36).
///
/// # Errors
/// A value that is not what its scheme says (D-39); the message is as it was then.
pub fn open(message: &mut ActivationMessage, keys: &ParameterKeys) -> Result<(), Locked> {
    if message.locked_args.is_empty() {
        return Ok(());
    }
    let Some(mut members) = message.content.as_ref().and_then(Json::members) else {
        return Ok(());
    };
    for (name, value) in &mut members {
        let opened = opened(&message.locked_args, keys, name, value).map_err(|(scheme, reason)| Locked {
            name: name.clone(),
            scheme: scheme.to_owned(),
            reason,
        })?;
        if let Some(opened) = opened {
            *value = opened;
        }
    }
    message.content = Some(Json::object(
        members.iter().map(|(name, value)| (name.as_str(), value)),
    ));
    Ok(())
}

/// None: the value stays as it is.
fn opened<'a>(
    locked: &'a BTreeMap<String, String>,
    keys: &ParameterKeys,
    name: &str,
    value: &Json,
) -> Result<Option<Json>, (&'a str, &'static str)> {
    let Some(scheme) = locked.get(name) else {
        return Ok(None);
    };
    let Ok(text) = value.decode::<String>() else {
        return Ok(None);
    };
    let plain = match (scheme.as_str(), keys) {
        (
            "aes-128",
            ParameterKeys {
                aes_128: Some(key), ..
            },
        ) => decrypt(Gcm128::new(key.into()), &text),
        (
            "aes-256",
            ParameterKeys {
                aes_256: Some(key), ..
            },
        ) => decrypt(Gcm256::new(key.into()), &text),
        _ => return Ok(None),
    };
    let plain = plain.map_err(|reason| (scheme.as_str(), reason))?;
    let json = std::str::from_utf8(&plain)
        .ok()
        .and_then(|text| Json::parse(text).ok());
    json.map(Some)
        .ok_or((scheme.as_str(), "what is in it is not JSON"))
}

/// Base64 of: length of the nonce in 4 bytes, big-endian; nonce; ciphertext with its tag (D-37).
fn decrypt<C: Aead + aead::AeadCore>(cipher: C, text: &str) -> Result<Vec<u8>, &'static str> {
    let bytes = STANDARD.decode(text).map_err(|_| "it is not base64")?;
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or("it is too short")?;
    let length = u32::from_be_bytes(*length) as usize;
    if length != Nonce::<C>::default().len() {
        return Err("its nonce has not the length of the scheme");
    }
    let (nonce, sealed) = rest.split_at_checked(length).ok_or("it is too short")?;
    let nonce = nonce
        .try_into()
        .map_err(|_| "its nonce has not the length of the scheme")?;
    cipher
        .decrypt(nonce, sealed)
        .map_err(|_| "it was not sealed with this key")
}
