//! Tenants of a fair queue.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// Tenant of a fair queue, such as an entry of `sync.yaml`. Tenants share each resource fairly: a tenant with many
/// requests does not delay a tenant with few requests. The default tenant is for requests that belong to no entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Tenant(u64);

impl Tenant {
    /// Returns the tenant with this name, such as the name of an entry.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        Self(hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_with_different_names_are_different() {
        assert_eq!(Tenant::from_name("python-base"), Tenant::from_name("python-base"));
        assert_ne!(Tenant::from_name("python-base"), Tenant::from_name("team"));
        assert_ne!(Tenant::from_name(""), Tenant::default());
    }
}
