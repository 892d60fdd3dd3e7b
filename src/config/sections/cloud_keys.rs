//! Keys of the identities at Amazon and Google, a part of the table of [`crate::config::keys`].

use crate::config::keys::{ANY, Shape, Table, key, with_default};

pub(crate) static AWS: Table = Table {
    place: "under `aws`",
    groups: &[&[
        key(
            "region",
            Shape::Text { pattern: "^[a-z0-9-]+$" },
            "The region of the registry. Default: as the host's name tells, else $AWS_REGION.",
            r#""eu-west-1""#,
        ),
        key(
            "profile",
            ANY,
            "Who to be, of those in ~/.aws/credentials and ~/.aws/config. Default: the first of environment, web \
             identity, \
             $AWS_PROFILE or the default profile, container and instance metadata service that has keys.",
            r#""mirror""#,
        ),
        key(
            "endpoint",
            ANY,
            "The address of the registry service's API. Default: the region's.",
            r#""https://vpce-1.api.ecr.eu-west-1.vpce.amazonaws.com""#,
        ),
        key(
            "sts",
            ANY,
            "The address of the security token service. Default: the region's.",
            r#""https://sts.eu-west-1.amazonaws.com""#,
        ),
        with_default(
            key("imds", ANY, "The address of the instance metadata service.", r#""http://[fd00:ec2::254]""#),
            r#""http://169.254.169.254""#,
        ),
    ]],
    required: &[],
};

pub(crate) static GCP: Table = Table {
    place: "under `gcp`",
    groups: &[&[
        key(
            "key",
            ANY,
            "The file with a service account's key, in JSON. Default: $GOOGLE_APPLICATION_CREDENTIALS, else the \
             service \
             account of this machine, by its metadata server.",
            r#""/etc/transship/gcp.json""#,
        ),
        key(
            "metadata",
            ANY,
            "The address of the metadata server. Default: $GCE_METADATA_HOST, else http://metadata.google.internal.",
            r#""http://169.254.169.254""#,
        ),
    ]],
    required: &[],
};
