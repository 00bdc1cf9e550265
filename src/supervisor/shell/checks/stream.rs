//! A connection to a server in a pod, plain or with TLS. As kubelet, probes do not verify certificates: they ask whether the
//! server answers, not who it is.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Number of bytes to read from the network at a time.
const CHUNK: usize = 4 << 10;

pub struct Stream {
    tcp: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

impl Stream {
    pub fn plain(tcp: TcpStream) -> Stream {
        Stream { tcp, tls: None }
    }

    /// A TLS connection to the server at `host`. The handshake comes with the first write.
    ///
    /// # Errors
    /// The library refuses its configuration.
    pub fn secure(tcp: TcpStream, host: IpAddr) -> io::Result<Stream> {
        let name = ServerName::IpAddress(host.into());
        let tls = ClientConnection::new(client_config()?, name).map_err(io::Error::other)?;
        Ok(Stream { tcp, tls: Some(Box::new(tls)) })
    }

    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return self.tcp.write_all(bytes).await };
        tls.writer().write_all(bytes)?;
        while tls.is_handshaking() || tls.wants_write() {
            send(&mut self.tcp, tls).await?;
            if tls.is_handshaking() && receive(&mut self.tcp, tls).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    /// The next bytes from the server; 0 bytes are the end.
    pub async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.tcp.read(buf).await };
        loop {
            match tls.reader().read(buf) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                // Many servers close without saying so.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                result => return result,
            }
            send(&mut self.tcp, tls).await?;
            receive(&mut self.tcp, tls).await?;
        }
    }

    /// Takes what has arrived by now off the connection, so that the server sees no reset.
    pub fn discard(&self, buf: &mut [u8]) {
        let _ = self.tcp.try_read(buf);
    }
}

/// Sends what the library has ready.
async fn send(tcp: &mut TcpStream, tls: &mut ClientConnection) -> io::Result<()> {
    while tls.wants_write() {
        let mut out = Vec::new();
        tls.write_tls(&mut out)?;
        tcp.write_all(&out).await?;
    }
    Ok(())
}

/// Hands the library what arrives next, and returns how much that was.
async fn receive(tcp: &mut TcpStream, tls: &mut ClientConnection) -> io::Result<usize> {
    let mut chunk = [0; CHUNK];
    let n = tcp.read(&mut chunk).await?;
    let mut rest = &chunk[..n];
    loop {
        tls.read_tls(&mut rest)?;
        if let Err(e) = tls.process_new_packets() {
            // The alert for the server, as far as it still listens.
            let _ = send(tcp, tls).await;
            return Err(io::Error::other(e));
        }
        if rest.is_empty() {
            return Ok(n);
        }
    }
}

fn client_config() -> io::Result<Arc<ClientConfig>> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(Arc::clone(config));
    }
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(AnyCertificate(Arc::clone(&provider)));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Arc::clone(CONFIG.get_or_init(|| Arc::new(config))))
}

/// Takes every certificate.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
