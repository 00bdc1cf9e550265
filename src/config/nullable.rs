//! `null` in JSON documents.

use serde::{Deserialize, Deserializer};

/// Reads `null` as the type's default, as the Go tools that write these documents mean it.
pub(crate) fn nullable<'de, D, T>(d: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}
