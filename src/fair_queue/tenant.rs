//! Tenants of a fair queue.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// Tenant on whose behalf a resource is used, such as an entry. Tenants share each resource fairly, so a tenant with
/// many requests does not delay one with few. The default tenant is for requests on nobody's behalf.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Tenant(u64);

impl Tenant {
    /// Returns the tenant of this name, such as an entry's.
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
