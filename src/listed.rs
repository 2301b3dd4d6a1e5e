//! Enums that list their variants.

/// An enum with a list `ALL` of its variants. A variant with fields says after `=` with which values it stands there, so that none can
/// be left out: `Clamp(f64, f64) = (-0.5, 0.75)`, `Atan { alpha: f64 } = { alpha: 2.0 }`.
macro_rules! listed {
    (
        $(#[$about:meta])*
        $visibility:vis enum $name:ident {
            $(
                $(#[$of_variant:meta])*
                $variant:ident
                $(($($type:ty),+) = ($($value:expr),+))?
                $({ $($(#[$of_field:meta])* $field:ident: $field_type:ty),+ $(,)? } = { $($named:ident: $named_value:expr),+ })?
            ),+ $(,)?
        }
    ) => {
        $(#[$about])*
        $visibility enum $name {
            $($(#[$of_variant])* $variant $(($($type),+))? $({ $($(#[$of_field])* $field: $field_type),+ })?),+
        }

        impl $name {
            /// Every variant; one with fields stands here with typical values.
            pub const ALL: [Self; [$(stringify!($variant)),+].len()] =
                [$(Self::$variant $(($($value),+))? $({ $($named: $named_value),+ })?),+];
        }
    };
}
