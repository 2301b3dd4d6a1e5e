//! Chainable setters of configurations, named after the fields: a `non_exhaustive` struct cannot be written field by
//! field outside the crate.

/// `Config { field: type, .. }` gives every field a method `config.field(value)`; an `Option<T>` takes a `T`, too, where its type is
/// written `impl Into<Option<T>>`.
macro_rules! setters {
    ($config:ident { $($field:ident: $value:ty),+ $(,)? }) => {
        impl $config {
            $(
                #[doc = concat!("The same with another [`", stringify!($field), "`](field@", stringify!($config), "::", stringify!($field), ").")]
                pub fn $field(mut self, $field: $value) -> Self {
                    self.$field = $field.into();
                    self
                }
            )+
        }
    };
}
