//! Chainable setters of configurations, named as the fields: what a program outside the crate changes a `non_exhaustive` struct with.

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
