//! Which of OpenWhisk's exchangeable parts are asked for, and which of them there are here.
//!
//! Source: `reference.conf`, `whisk.spi`; contract P-13, P-14, P-96 … P-98, V-13.

use super::reader::{Kind, Reader, TEXT};

/// Who keeps an activation's logs (P-96).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogStore {
    /// The record, by way of the containers' json-file logs (C-60).
    #[default]
    Record,
    /// A log driver of Docker's; records have none (C-76).
    Driver,
}

/// One exchangeable part.
struct Provider {
    name: &'static str,
    /// Full names of classes that behave as we do; the first is what is taken where none is named.
    supported: &'static [&'static str],
    /// What else an operator should know.
    hint: &'static str,
}

const PROVIDERS: &[Provider] = &[
    Provider {
        name: "InvokerProvider",
        supported: &["org.apache.openwhisk.core.invoker.InvokerReactive"],
        hint: "; the scheduler mode (FPC) needs OpenWhisk's own invoker, and this one a controller with ShardingContainerPoolBalancer",
    },
    Provider {
        name: "InvokerServerProvider",
        supported: &["org.apache.openwhisk.core.invoker.DefaultInvokerServer"],
        hint: "; the scheduler mode (FPC) needs OpenWhisk's own invoker",
    },
    Provider {
        name: "LogStoreProvider",
        supported: &[
            "org.apache.openwhisk.core.containerpool.logging.DockerToActivationLogStoreProvider",
            "org.apache.openwhisk.core.containerpool.logging.LogDriverLogStoreProvider",
        ],
        hint: "",
    },
    Provider {
        name: "ActivationStoreProvider",
        supported: &["org.apache.openwhisk.core.database.ArtifactActivationStoreProvider"],
        hint: "",
    },
    Provider {
        name: "ArtifactStoreProvider",
        supported: &["org.apache.openwhisk.core.database.CouchDbStoreProvider"],
        hint: "",
    },
    Provider {
        name: "MessagingProvider",
        supported: &["org.apache.openwhisk.connector.kafka.KafkaMessagingProvider"],
        hint: "",
    },
    Provider {
        name: "ContainerFactoryProvider",
        supported: &["org.apache.openwhisk.core.containerpool.docker.DockerContainerFactoryProvider"],
        hint: "",
    },
];

/// Checks all names; none is needed. An attachment store is refused whatever its name: attachments are
/// where the documents are.
pub(super) fn read(reader: &mut Reader<'_>) -> LogStore {
    let mut logs = LogStore::default();
    for provider in PROVIDERS {
        let path = format!("whisk.spi.{}", provider.name);
        let name = reader.get(&path, provider.supported[0], &CLASS);
        if !provider.supported.contains(&&*name) {
            let supported = provider.supported.join(" or ");
            reader.refuse(&path, &format!("{supported}{}", provider.hint));
        } else if name.ends_with(".LogDriverLogStoreProvider") {
            logs = LogStore::Driver;
        }
    }
    let attachments = "whisk.spi.AttachmentStoreProvider";
    if reader.find(attachments, &TEXT).is_some() {
        reader.refuse(attachments, "nothing: attachments are read from CouchDB");
    }
    logs
}

const CLASS: Kind<String> = Kind {
    expected: "the full name of a class",
    parse: |text| {
        let name = text.trim();
        (!name.is_empty()).then(|| name.to_owned())
    },
};
