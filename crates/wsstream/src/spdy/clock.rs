use crate::limits::Timeouts;
pub(super) struct Clock { _t: Timeouts }
impl Clock { pub(super) fn new(t: Timeouts) -> Self { Self { _t: t } } }
