//! An instance's `/dev/shm`: a volume that is a tmpfs, with an owner and a size of its own.
//!
//! Docker mounts it when the first lane starts and lets go of it after the last one; the invoker needs no right
//! to mount.

use super::Timeouts;
use super::call::{CallError, call, call_through_outages};
use super::describe::{INSTANCE, INVOKER};
use bollard::Docker;
use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::{ListVolumesOptionsBuilder, RemoveVolumeOptionsBuilder};
use proto::id::InstanceId;
use proto::unit::Bytes;
use std::collections::HashMap;
use std::time::Duration;

/// A volume is in use for a moment after its last container is gone.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// Its name is the handle.
pub(super) async fn create(
    docker: &Docker,
    owner: &str,
    instance: &InstanceId,
    size: Bytes,
    uid: u32,
    timeouts: &Timeouts,
) -> Result<String, CallError> {
    let name = format!("{owner}_{instance}");
    let text = |pairs: &[(&str, &str)]| -> HashMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    let options = format!("size={},mode=0700,uid={uid},gid={uid}", size.0);
    let request = VolumeCreateRequest {
        name: Some(name.clone()),
        driver: Some("local".to_owned()),
        driver_opts: Some(text(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", &options)])),
        labels: Some(text(&[(INVOKER, owner), (INSTANCE, instance.as_str())])),
        ..VolumeCreateRequest::default()
    };
    let created = call_through_outages("volume create", &name, timeouts.run, || {
        docker.create_volume(request.clone())
    });
    created.await?;
    Ok(name)
}

/// Removing what is gone already is success.
pub(super) async fn remove(docker: &Docker, name: &str, timeouts: &Timeouts) -> Result<(), CallError> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let options = RemoveVolumeOptionsBuilder::default().build();
        let removed = call_through_outages("volume rm", name, timeouts.rm, || {
            docker.remove_volume(name, Some(options.clone()))
        });
        match removed.await {
            Err(error) if error.status() == Some(404) => return Ok(()),
            Err(error) if error.status() == Some(409) && attempt < ATTEMPTS => {
                tokio::time::sleep(PAUSE).await
            }
            outcome => return outcome,
        }
    }
}

/// Removes all volumes with the owner's label.
pub(super) async fn sweep(docker: &Docker, owner: &str, timeouts: &Timeouts) -> Result<(), CallError> {
    let label = format!("{INVOKER}={owner}");
    let filters = HashMap::from([("label", vec![label.as_str()])]);
    let options = ListVolumesOptionsBuilder::default().filters(&filters).build();
    let listed = call(
        "volume ls",
        owner,
        timeouts.ps,
        docker.list_volumes(Some(options)),
    )
    .await?;
    for volume in listed.volumes.unwrap_or_default() {
        remove(docker, &volume.name, timeouts).await?;
    }
    Ok(())
}
