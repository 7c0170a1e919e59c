//! The gateway's pure modules, as the fuzz targets see them.

#[path = "../../src/certs"]
pub mod certs {
    pub mod sites {
        pub mod given;
        pub mod mode;
        pub mod public;
    }
}

#[path = "../../src/rules"]
pub mod rules {
    pub mod domain;
    pub mod forwarded;
    pub mod hop;
    pub mod policy;
    pub mod proxied;
    pub mod route;
    pub mod routes_file;
    pub mod table;
}

#[path = "../../src/wire"]
pub mod wire {
    pub mod chunked;
    pub mod fields;
}

#[path = "../../src/edge/http1"]
pub mod edge {
    pub mod head;
}

#[path = "../../src/upstream/http1"]
pub mod upstream {
    pub mod request;
}
