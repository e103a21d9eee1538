//! What time asks for.

pub(crate) mod ahead;
pub(crate) mod give_up;
pub(crate) mod helper;
pub(crate) mod idle_cache;
pub(crate) mod maintain;
pub(crate) mod pages;
pub(crate) mod settle;
pub(crate) mod shortage;
pub(crate) mod tick;
