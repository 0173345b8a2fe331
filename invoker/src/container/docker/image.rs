//! Which image is meant, and whether its tag can be relied on.

use super::DockerSettings;
use crate::container::Image;

/// The image as Docker is told it: a registry that the image names itself wins over the configured one (L-14).
pub(super) fn resolve(image: &Image, settings: &DockerSettings) -> String {
    if has_registry(&image.name) {
        return image.name.clone();
    }
    // What may be pulled is a user's; managed and native images are not (L-16).
    let registry = if image.pull {
        &settings.user_images_registry
    } else {
        &settings.runtimes_registry
    };
    match registry.trim_end_matches('/') {
        "" => image.name.clone(),
        registry => format!("{registry}/{}", image.name),
    }
}

/// The first component counts as registry only if it holds a dot with further labels, or a port (P-128).
fn has_registry(name: &str) -> bool {
    let first = name.split_once('/').map(|(first, _)| first);
    first.is_some_and(|first| {
        let dotted = first
            .split_once('.')
            .is_some_and(|(host, rest)| !host.is_empty() && !rest.is_empty());
        dotted || first.contains(':')
    })
}

/// Name, and tag or digest; without either Docker means `latest`, and would pull all if it were left out.
pub(super) fn split(image: &str) -> (&str, &str) {
    if let Some(parts) = image.split_once('@') {
        return parts;
    }
    let last = image.rfind('/').map_or(0, |slash| slash + 1);
    match image[last..].rfind(':') {
        Some(colon) => (&image[..last + colon], &image[last + colon + 1..]),
        None => (image, "latest"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// L-14, P-64: a prefix for images without a registry of their own.
    #[test]
    fn a_registry_that_the_image_names_wins_over_the_configured_one() {
        let settings = DockerSettings {
            runtimes_registry: "registry.example:5000/".to_owned(),
            user_images_registry: "users.example".to_owned(),
            ..crate::container::docker::settings::tests::settings()
        };
        for (name, pull, resolved) in [
            (
                "openwhisk/action-python-v3.11:1",
                false,
                "registry.example:5000/openwhisk/action-python-v3.11:1",
            ),
            ("jane/tool", true, "users.example/jane/tool"),
            ("tool:2", true, "users.example/tool:2"),
            ("ghcr.io/jane/tool", true, "ghcr.io/jane/tool"),
            ("localhost:5000/tool", false, "localhost:5000/tool"),
        ] {
            let image = Image {
                kind: String::new(),
                name: name.to_owned(),
                pull,
            };
            assert_eq!(resolve(&image, &settings), resolved);
        }
    }

    #[test]
    fn a_tag_is_what_stands_behind_the_last_colon_of_the_name() {
        assert_eq!(split("a/b:1"), ("a/b", "1"));
        assert_eq!(split("host:5000/a/b"), ("host:5000/a/b", "latest"));
        assert_eq!(split("a@sha256:ab"), ("a", "sha256:ab"));
    }
}
