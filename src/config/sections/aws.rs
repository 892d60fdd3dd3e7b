//! Section `credentials.aws`: an identity at Amazon Web Services.

use super::service_address::{IMDS, check_metadata_address, check_secret_address, read_address};
use crate::config::keys::table::{ANY, Shape, Table, key};
use crate::config::reader::{Reader, Value};
use crate::registry::{Aws, Variables};

pub(crate) static AWS: Table = Table {
    place: "under `aws`",
    groups: &[&[
        key(
            "region",
            Shape::Text { pattern: "^[a-z0-9-]+$" },
            "Region of the registry. Default: the region in the host name, else $AWS_REGION.",
            r#""eu-west-1""#,
        ),
        key(
            "profile",
            ANY,
            "Profile in ~/.aws/credentials and ~/.aws/config. Default: the first of these sources that has keys: \
             environment, web identity, $AWS_PROFILE or the default profile, container, instance metadata service.",
            r#""mirror""#,
        ),
        key(
            "endpoint",
            ANY,
            "Address of the ECR API. Default: the address of the region.",
            r#""https://vpce-1.api.ecr.eu-west-1.vpce.amazonaws.com""#,
        ),
        key(
            "sts",
            ANY,
            "Address of the security token service (STS). Default: the address of the region.",
            r#""https://sts.eu-west-1.amazonaws.com""#,
        ),
        key("imds", ANY, "Address of the instance metadata service.", r#""http://[fd00:ec2::254]""#)
            .with_default(r#""http://169.254.169.254""#),
    ]],
    required: &[],
};

/// Reads the section. If the reader recorded a problem, returns `None`.
pub(crate) fn read_aws(reader: &Reader<'_>, value: &Value<'_>) -> Option<Aws> {
    let fields = reader.fields(value, &AWS)?;
    let address = |key| fields.get(key).map(|value| read_address(reader, value, check_secret_address));
    let region = fields.get("region").map(|value| read_region(reader, value));
    let profile = fields.get("profile").map(|value| reader.text(value, "the name of a profile"));
    let (endpoint, sts) = (address("endpoint"), address("sts"));
    let imds = fields
        .get("imds")
        .map_or_else(|| IMDS.parse().ok(), |value| read_address(reader, value, check_metadata_address));
    fields.assert_all_read();
    Some(Aws {
        region: region.map_or(Some(None), |region| region.map(Some))?,
        profile: profile.map_or(Some(None), |profile| profile.map(Some))?,
        endpoint: endpoint.map_or(Some(None), |place| place.map(Some))?,
        sts: sts.map_or(Some(None), |place| place.map(Some))?,
        imds: imds?,
        variables: Variables::from_environment(reader.environment),
    })
}

fn read_region(reader: &Reader<'_>, value: &Value<'_>) -> Option<String> {
    let text = reader.text(value, "a region like eu-west-1")?;
    // The region becomes a part of a host name.
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        reader.refuse(value, "a region has only lower-case letters, digits and `-`, like eu-west-1");
        return None;
    }
    Some(text)
}
