"""What people paste into reports: logs of drivers, dumps of settings, shells, devices, tickets in many languages."""

from __future__ import annotations

import pytest
from field import FieldRow, fault

KEY = "Zt9ECcNQf2suOoOOsgAw8sQ3"
PASSWORD = "S3cretPw9"


def row(text: str, *gone: str, stay: tuple[str, ...] | None = ()) -> FieldRow:
    """Make a row; what must go and stay was decided before anything was run."""
    return FieldRow(text[:40], "report", text, gone, stay)


GONE = {
    # How programs print their settings
    "Go map": row('level=error msg="putting [map[connection_uri:http://rabbitmq.default:15672 password:plaintextpassword9 ttl:760h username:admin]]"', "plaintextpassword9", stay=("ttl:760h", "username:admin", "rabbitmq.default:15672")),
    "Go struct": row(f"{{Host:db User:app Password:{PASSWORD} Port:5432}}", PASSWORD, stay=("Host:db User:app", "Port:5432")),
    "PHP array": row("'username' => 'netnak', 'password' => 'opensesame', 'port' => 3306", "opensesame", stay=("'netnak'", "3306")),
    "PHP var_dump": row('["password"]=>\n  string(10) "opensesame"\n  ["port"]=>\n  int(3306)', "opensesame", stay=("int(3306)",)),
    "Python call": row(f"Config(host='db', user='app', password='{PASSWORD}', port=5432)", PASSWORD, stay=("user='app'", "port=5432")),
    "Rust debug": row(f'Credentials {{ user: "app", password: "{PASSWORD}", timeout: 30 }}', PASSWORD, stay=('user: "app"', "timeout: 30")),
    "Rust option": row(f'Login {{ user: "app", password: Some("{PASSWORD}"), timeout: 30 }}', PASSWORD, stay=("timeout: 30",)),
    "Ruby hash": row(f'{{:user=>"app", :password=>"{PASSWORD}", "host"=>"db"}}', PASSWORD, stay=('"app"', '"host"=>"db"')),
    "Java bean": row(f"DbConfig{{url='jdbc:h2:mem', username='sa', password='{PASSWORD}'}}", PASSWORD, stay=("username='sa'",)),
    "Java record": row(f"DbConfig[url=jdbc:h2:mem, username=sa, password={PASSWORD}, pool=5]", PASSWORD, stay=("username=sa", "pool=5")),
    "Java properties": row(f"{{user=sa, password={PASSWORD}, ssl=true}}", PASSWORD, stay=("user=sa", "ssl=true")),
    "logfmt": row(f"level=info user=bob api_key={KEY} duration=12ms", KEY, stay=("user=bob", "duration=12ms")),
    "driver's JSON": row('mongoclient {"connectionUrl":"mongodb://root:hunter2x@mongodb.develop:27017/?authSource=admin","level":"debug"}', "hunter2x", stay=("mongodb.develop:27017/?authSource=admin", '"level":"debug"')),
    "ODBC": row("DATABASE=prod;HOSTNAME=db2.corp;UID=svc;PWD=Tr0ub4dor&3;PORT=50000", "Tr0ub4dor&3", stay=("HOSTNAME=db2.corp;UID=svc", "PORT=50000")),
    "SQL Server": row("Server=tcp:sql1.example.net,1433;User ID=app;Password=S3cretPw!9;Encrypt=True", "S3cretPw!9", stay=("sql1.example.net,1433", "Encrypt=True")),
    "JDBC, semicolons": row(f"jdbc:sqlserver://db:1433;databaseName=x;user=sa;password={PASSWORD};encrypt=true", PASSWORD, stay=("databaseName=x;user=sa", "encrypt=true")),
    "JDBC, parameters": row(f"jdbc:mysql://db:3306/shop?user=app&password={PASSWORD}&useSSL=false", PASSWORD, stay=("user=app", "useSSL=false")),
    "keyword DSN": row(f"host=db port=5432 dbname=shop user=app password={PASSWORD} sslmode=require", PASSWORD, stay=("user=app", "sslmode=require")),
    "Go DSN": row(f"connecting to app:{PASSWORD}@tcp(db:3306)/shop?parseTime=true", PASSWORD, stay=("tcp(db:3306)/shop",)),
    # Headers and addresses of pages
    "basic": row("> Authorization: Basic dXNlcjpTM2NyZXRQdzk=\n> Accept: */*", "dXNlcjpTM2NyZXRQdzk=", stay=("> Accept: */*",)),
    "proxy": row("Proxy-Authorization: Basic dXNlcjpTM2NyZXRQdzk=", "dXNlcjpTM2NyZXRQdzk="),
    "header's value": row(f"X-Auth-Token: {KEY}\nHost: x.example", KEY, stay=("Host: x.example",)),
    "cookie": row(f"Cookie: _ga=GA1.2.1234; sessionid={KEY}\nHost: x.example", KEY, stay=("Host: x.example",)),
    "set-cookie": row(f"< Set-Cookie: sid={KEY}; Path=/; HttpOnly\n< Server: nginx", KEY, stay=("< Server: nginx",)),
    "access log": row(f'10:01 "GET /cb?code={KEY}&state=x HTTP/1.1" 302', KEY, stay=('&state=x HTTP/1.1" 302',)),
    "reset link": row(f"https://x.example/reset?user=7&token={KEY}#top", KEY, stay=("https://x.example/reset?user=7&token=", "#top")),
    "redis": row(f"redis://:{PASSWORD}@cache:6379/0", PASSWORD, stay=("cache:6379/0",)),
    "rediss": row(f"REDIS_URL=rediss://default:{PASSWORD}@cache.example.net:6380", PASSWORD, stay=("cache.example.net:6380",)),
    "amqp": row(f"amqp://guest:{PASSWORD}@mq:5672//", PASSWORD, stay=("amqp://guest:", "@mq:5672//")),
    "smtp": row(f"smtp://mailer:{PASSWORD}@smtp.example.org:587", PASSWORD, stay=("smtp.example.org:587",)),
    "ftp": row(f"ftp://bob:{PASSWORD}@ftp.example.org/pub", PASSWORD, stay=("ftp.example.org/pub",)),
    "srv": row(f'mongosh "mongodb+srv://app:{PASSWORD}@c0.x1.mongodb.net/shop"', PASSWORD, stay=("c0.x1.mongodb.net/shop",)),
    "git": row(f"git remote set-url origin https://bob:{KEY}@github.com/a/b.git", KEY, stay=("github.com/a/b.git",)),
    # Files of settings
    "aws": row("[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLQ\naws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYzEXAMPLEKEQ\nregion = eu-west-1", "AKIAIOSFODNN7EXAMPLQ", "wJalrXUtnFEMI", stay=("region = eu-west-1",)),
    "environment": row("HOME=/root\nDB_PASSWORD=opensesame\nPATH=/usr/bin:/bin", "opensesame", stay=("HOME=/root", "PATH=/usr/bin:/bin")),
    "declare": row(f'declare -x STRIPE_SECRET="{KEY}"\ndeclare -x SHLVL="1"', KEY, stay=('SHLVL="1"',)),
    "fish": row(f"set -gx OPENAI_API_KEY {KEY}", KEY, stay=("set -gx",)),
    "cmd": row(f"set DB_PASS={PASSWORD}\r\nset TZ=UTC", PASSWORD, stay=("TZ=UTC",)),
    "PowerShell": row(f"$env:API_KEY = '{KEY}'; $env:REGION = 'eu'", KEY, stay=("'eu'",)),
    "secure string": row('$p = ConvertTo-SecureString "S3cretPw!9" -AsPlainText -Force', "S3cretPw!9", stay=("-AsPlainText -Force",)),
    "Dockerfile": row(f"ENV MYSQL_ROOT_PASSWORD={PASSWORD}\nEXPOSE 3306", PASSWORD, stay=("EXPOSE 3306",)),
    "Dockerfile, blank": row(f"ENV MYSQL_ROOT_PASSWORD {PASSWORD}\nEXPOSE 3306", PASSWORD, stay=("EXPOSE 3306",)),
    "build argument": row(f"docker build --build-arg NPM_TOKEN={KEY} -t app:1.2 .", KEY, stay=("-t app:1.2 .",)),
    "compose, list": row("environment:\n  - POSTGRES_PASSWORD=opensesame\n  - TZ=UTC\n", "opensesame", stay=("TZ=UTC",)),
    "compose, map": row("environment:\n  POSTGRES_PASSWORD: opensesame\n  TZ: UTC\n", "opensesame", stay=("TZ: UTC",)),
    "cluster's secret": row("kind: Secret\ndata:\n  password: UzNjcmV0UHc5\n  username: YXBw\n", "UzNjcmV0UHc5", stay=("kind: Secret",)),
    "string data": row("stringData:\n  token: Zt9ECcNQf2suOoOOsgAw8sQ3\n  region: eu\n", KEY, stay=("region: eu",)),
    "tfvars": row(f'db_password = "{PASSWORD}"\ndb_name = "shop"', PASSWORD, stay=('db_name = "shop"',)),
    "glued names": row('  adminpass       = "opensesame1"\n  userpass        = var.user_pass', "opensesame1", stay=("var.user_pass",)),
    "terraform plan": row(f'+ master_password = "{PASSWORD}"\n+ engine = "postgres"', PASSWORD, stay=('engine = "postgres"',)),
    "ansible": row(f"ansible_become_pass: {PASSWORD}\nansible_user: deploy", PASSWORD, stay=("ansible_user: deploy",)),
    "inventory": row(f"web1 ansible_user=deploy ansible_ssh_pass={PASSWORD} ansible_port=22", PASSWORD, stay=("ansible_user=deploy", "ansible_port=22")),
    "npmrc": row(f"registry=https://r.example/\n//r.example/:_authToken={KEY}", KEY, stay=("registry=https://r.example/",)),
    "npmrc, basic": row("//r.example/:_password=UzNjcmV0UHc5\n//r.example/:username=ci", "UzNjcmV0UHc5", stay=("username=ci",)),
    "pypirc": row(f"[pypi]\nusername = __token__\npassword = {PASSWORD}", PASSWORD, stay=("username = __token__",)),
    "maven": row(f"<server><id>nexus</id><username>ci</username><password>{PASSWORD}</password></server>", PASSWORD, stay=("<id>nexus</id><username>ci</username>", "</password></server>")),
    "gradle": row(f"signing.password={PASSWORD}\nsigning.keyId=24875D73", PASSWORD, stay=("signing.keyId=24875D73",)),
    "spring": row(f"spring.datasource.password={PASSWORD}\nspring.datasource.url=jdbc:postgresql://db:5432/app", PASSWORD, stay=("jdbc:postgresql://db:5432/app",)),
    "spring, YAML": row("spring:\n  datasource:\n    username: app\n    password: opensesame\n    url: jdbc:h2:mem\n", "opensesame", stay=("username: app", "url: jdbc:h2:mem")),
    "django": row(f"'USER': 'app',\n'PASSWORD': '{PASSWORD}',\n'PORT': '5432',", PASSWORD, stay=("'USER': 'app'", "'PORT': '5432'")),
    "django's key": row("SECRET_KEY = 'django-insecure-4k#x8w!z2@v6c&b1n$m9q'\nDEBUG = True", "4k#x8w!z2@v6c&b1n$m9q", stay=("DEBUG = True",)),
    "laravel": row("APP_ENV=local\nAPP_KEY=base64:9sXr3u1T0qz8Yw6Lk2Vb5Nm7Pd4Hg1Jc0Fa3Se6Rt8w=\nAPP_DEBUG=true", "9sXr3u1T0qz8Yw6Lk2Vb5Nm7Pd4Hg1Jc0Fa3Se6Rt8w", stay=("APP_ENV=local", "APP_DEBUG=true")),
    "wordpress": row(f"define( 'DB_NAME', 'shop' );\ndefine( 'DB_PASSWORD', '{PASSWORD}' );", PASSWORD, stay=("'DB_NAME', 'shop'",)),
    "php.ini": row(f"mysqli.default_pw = {PASSWORD}\nmysqli.default_port = 3306", PASSWORD, stay=("mysqli.default_port = 3306",)),
    "TOML": row(f'[database]\nuser = "app"\npassword = "{PASSWORD}"\npool = 5', PASSWORD, stay=('user = "app"', "pool = 5")),
    "XML attribute": row(f'<connection user="app" password="{PASSWORD}" pool="5"/>', PASSWORD, stay=('user="app"', 'pool="5"')),
    "app.config": row(f'<add key="ApiToken" value="{KEY}" />\n<add key="Region" value="eu" />', KEY, stay=('key="Region" value="eu"',)),
    "plist": row(f"<key>password</key>\n<string>{PASSWORD}</string>\n<key>port</key>\n<integer>22</integer>", PASSWORD, stay=("<integer>22</integer>",)),
    "ldif": row("uid: bob\nuserPassword: {SSHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\ncn: Bob", "5en6G6MezRroT3XKqkdPOmY/BfQ=", stay=("uid: bob",)),
    "hostapd": row("ssid=home\nwpa_passphrase=opensesame99\nchannel=6", "opensesame99", stay=("ssid=home", "channel=6")),
    "supplicant": row('network={\n  ssid="home"\n  psk="opensesame99"\n}', "opensesame99", stay=('ssid="home"',)),
    "cisco, type 5": row("enable secret 5 $1$mERr$hx5rVt7rPNoS4wqbXKX7m0\ninterface Gi0/1", "hx5rVt7rPNoS4wqbXKX7m0", stay=("interface Gi0/1",)),
    "cisco, type 7": row("username admin privilege 15 password 7 0822455D0A16\nip ssh version 2", "0822455D0A16", stay=("username admin privilege 15", "ip ssh version 2")),
    "community": row("snmp-server community S3cr3tC0mm RO\nsnmp-server location Rome", "S3cr3tC0mm", stay=("snmp-server location Rome",)),
    # Shells
    "PGPASSWORD": row(f"PGPASSWORD={PASSWORD} psql -h db -U app -c 'select 1'", PASSWORD, stay=("psql -h db -U app -c 'select 1'",)),
    "docker -e": row(f"docker run -e POSTGRES_PASSWORD={PASSWORD} -p 5432:5432 postgres:16", PASSWORD, stay=("-p 5432:5432 postgres:16",)),
    "kubectl": row(f"kubectl create secret generic db --from-literal=password={PASSWORD} --from-literal=user=app", PASSWORD, stay=("--from-literal=user=app",)),
    "helm": row(f"helm install x . --set auth.password={PASSWORD},auth.user=bob", PASSWORD, stay=("helm install x .", "auth.user=bob")),
    "mysql, long": row(f"mysql -u root --password={PASSWORD} shop", PASSWORD, stay=("mysql -u root", " shop")),
    "svn": row(f"svn co https://svn.example.org --username bob --password {PASSWORD} --quiet", PASSWORD, stay=("--username bob", "--quiet")),
    "curl, header": row(f'curl -H "X-Api-Key: {KEY}" https://x.example/v1/users', KEY, stay=("https://x.example/v1/users",)),
    "curl, body": row(f'curl -d \'{{"username":"bob","password":"{PASSWORD}"}}\' https://x.example/login', PASSWORD, stay=('"username":"bob"', "https://x.example/login")),
    "curl, form": row(f'curl --data "user=bob&password={PASSWORD}&remember=1" https://x.example/login', PASSWORD, stay=("user=bob", "&remember=1")),
    "httpie": row(f"http POST x.example/login username=bob password={PASSWORD}", PASSWORD, stay=("http POST x.example/login username=bob",)),
    "wget": row(f"wget --user=bob --password={PASSWORD} https://x.example/f.zip", PASSWORD, stay=("--user=bob", "https://x.example/f.zip")),
    "az": row("az login --service-principal -u 11111111-2222-3333-4444-555555555555 -p S3cretPw9~x --tenant t1", "S3cretPw9~x", stay=("11111111-2222-3333-4444-555555555555", "--tenant t1")),
    "oracle": row(f"sqlplus app/{PASSWORD}@//db:1521/x", PASSWORD, stay=("sqlplus app/", "@//db:1521/x")),
    "net use": row(rf"net use Z: \\srv\share {PASSWORD} /user:bob", PASSWORD, stay=(r"net use Z: \\srv\share",)),
    "schtasks": row(f"schtasks /create /ru bob /rp {PASSWORD} /tn x", PASSWORD, stay=("/ru bob", "/tn x")),
    "chpasswd": row(f"echo 'root:{PASSWORD}' | chpasswd", PASSWORD, stay=("root:", "| chpasswd")),
    "pkcs12": row(f"openssl pkcs12 -in a.p12 -passin pass:{PASSWORD} -nodes", PASSWORD, stay=("-in a.p12", "-nodes")),
    "keytool": row(f"keytool -genkey -alias x -storepass {PASSWORD} -validity 365", PASSWORD, stay=("-alias x", "-validity 365")),
    "gpg": row(f"gpg --batch --passphrase {PASSWORD} -c f.txt", PASSWORD, stay=("-c f.txt",)),
    "zip": row(f"zip -P {PASSWORD} a.zip f.txt", PASSWORD, stay=("a.zip f.txt",)),
    "snmp": row("snmpwalk -v3 -u bob -l authPriv -A S3cretPw9 -X Px9secret 10.x", "S3cretPw9", "Px9secret", stay=("-u bob",)),
    "sudo": row(f"echo {PASSWORD} | sudo -S apt-get update", PASSWORD, stay=("| sudo -S apt-get update",)),
    "rsync": row(f"RSYNC_PASSWORD='{PASSWORD}' rsync -a src/ bob@host::mod", PASSWORD, stay=("rsync -a src/ bob@host::mod",)),
    "mc": row(f"mc alias set s3 https://minio.example AKIAIOSFODNN7EXAMPLQ {KEY}", KEY, stay=("mc alias set s3 https://minio.example",)),
    # SQL
    "create user": row(f"CREATE USER app WITH PASSWORD '{PASSWORD}';", PASSWORD, stay=("CREATE USER app WITH",)),
    "create role": row(f"CREATE ROLE app LOGIN ENCRYPTED PASSWORD '{PASSWORD}' VALID UNTIL 'infinity';", PASSWORD, stay=("CREATE ROLE app", "VALID UNTIL 'infinity'")),
    "alter user": row(f"ALTER USER 'root'@'localhost' IDENTIFIED BY '{PASSWORD}';", PASSWORD, stay=("ALTER USER 'root'@'localhost'",)),
    "create login": row(f"CREATE LOGIN app WITH PASSWORD = N'{PASSWORD}', CHECK_POLICY = OFF;", PASSWORD, stay=("CHECK_POLICY = OFF",)),
    "set password": row(f"UPDATE users SET password='{PASSWORD}' WHERE id=7;", PASSWORD, stay=("WHERE id=7",)),
    # Tickets
    "German": row("Das Passwort lautet: Sommer2024! Danke", "Sommer2024!", stay=("Das Passwort lautet:", "Danke")),
    "French": row("Le mot de passe est Soleil#2024 merci", "Soleil#2024", stay=("merci",)),
    "Spanish": row("La contraseña es Verano2024! gracias", "Verano2024", stay=("gracias",)),
    "Italian": row("la password è Estate2024! grazie", "Estate2024", stay=("grazie",)),
    "Portuguese": row("A senha é Verao2024! obrigado", "Verao2024", stay=("obrigado",)),
    "Dutch": row("Het wachtwoord is Zomer2024! bedankt", "Zomer2024", stay=("bedankt",)),
    "Polish": row("Hasło: Lato2024! Dziękuję", "Lato2024", stay=("Dziękuję",)),
    "Russian": row("Мой пароль: Leto2024! спасибо", "Leto2024", stay=("спасибо",)),
    "Chinese": row("密码：Xia2024!x，谢谢", "Xia2024!x", stay=("谢谢",)),
    "Japanese": row("パスワードは Natsu2024! です", "Natsu2024", stay=("です",)),
    "Korean": row("비밀번호: Yeoreum2024! 입니다", "Yeoreum2024", stay=("입니다",)),
    "Turkish": row("Şifre: Yaz2024!x teşekkürler", "Yaz2024!x", stay=("teşekkürler",)),
    "Swedish": row("Lösenord: Sommar2024! tack", "Sommar2024", stay=("tack",)),
    "Czech": row("Heslo: Leto2024!x děkuji", "Leto2024!x", stay=("děkuji",)),
    "English": row("My password is hunter2, please reset it", "hunter2", stay=("please reset it",)),
    "labels": row("Username: bob\nPassword: opensesame\nServer: vpn1\n", "opensesame", stay=("Username: bob", "Server: vpn1")),
    "one line": row(f"user: bob pass: {PASSWORD} server: vpn1", PASSWORD, stay=("user: bob", "server: vpn1")),
    "slash": row(f"login: bob / {PASSWORD}", PASSWORD, stay=("login: bob",)),
    "code": row("Your verification code is 482-913. It expires in 10 minutes.", "482-913", stay=("It expires in 10 minutes.",)),
    "OTP": row("OTP: 482913 valid for 5 minutes", "482913", stay=("valid for 5 minutes",)),
    "Markdown table": row(f"| user | password |\n|---|---|\n| bob | {PASSWORD} |\n", PASSWORD, stay=("| bob |",)),
    "tabs": row(f"user\tpassword\tcity\nbob\t{PASSWORD}\tRome\n", PASSWORD, stay=("bob\t", "\tRome")),
    # Persons
    "German ticket": row("Kunde Tel. 030 12345678, E-Mail max.mueller@web.de, Nr. 4711", "030 12345678", "max.mueller@web.de", stay=("Nr. 4711",)),
    "Spanish number": row("Mi móvil es 612 345 678 y vivo en Lugo", "612 345 678", stay=("vivo en Lugo",)),
    "French number": row("appelle-moi au 06 12 34 56 78 demain", "06 12 34 56 78", stay=("demain",)),
    "trunk in brackets": row("phone: +49 (0)30 901820 ext 12", "+49 (0)30 901820", stay=("phone:",)),
    "Brazil": row("WhatsApp: +55 11 91234-5678 (Ana)", "+55 11 91234-5678", stay=("(Ana)",)),
    "India": row("Call me on +91 98765 43210 after 5", "+91 98765 43210", stay=("after 5",)),
    "account": row("IBAN: DE89 3704 0044 0532 0130 00, BIC COBADEFF", "DE89 3704 0044 0532 0130 00", stay=("IBAN:",)),
    "card": row("card 4111-1111-1111-1111 exp 12/27", "4111-1111-1111-1111", stay=("exp 12/27",)),
    "social security": row("SSN: 536-90-4399, born 1980", "536-90-4399", stay=("born 1980",)),
    "ssh log": row("Failed password for root from 203.0.113.7 port 52144 ssh2", "203.0.113.7", stay=("Failed password for root from", "port 52144 ssh2")),
    "IPv6": row("client 2001:db8::8a2e:370:7334 connected at 10:11:12", "2001:db8::8a2e:370:7334", stay=("connected at 10:11:12",)),
    "MAC": row("lease for 00:1A:2B:3C:4D:5E expires", "00:1A:2B:3C:4D:5E", stay=("lease for", "expires")),
    "from": row('From: "Bob Müller" <bob.mueller@firma.de>\nSubject: x', "bob.mueller@firma.de", stay=("Subject: x",)),
    "mailto": row('<a href="mailto:bob@example.com?subject=hi">', "bob@example.com", stay=("mailto:", "?subject=hi")),
}  # fmt: skip

STAY = (
    # Times, ids, hashes
    "Tue Jun 02 20:17:00 CST 2026", "hosted-eu-20260812-09", "20240506T101112Z 2024-05-06/2024-06-07 10:11:12.123456+00:00",
    "example.com. 3600 IN SOA ns1.example.com. admin.example.com. 2026081209 7200 3600 1209600 3600", '{"product_id": 3074185296, "created_at": 1755302400}',
    "Item 4123456789012 is out of stock", "git revert a94a8fe5ccb19ba61c4c0873d391e987982fbbd3", "Order PO1234567 for part X12345",
    '{"ts": "1755302400.123456", "thread_ts": "1755302400.654321", "channel": "C024BE91L"}', "nginx@sha256:4c0fdaa8b6341bfdeca5f18f7837462c80cff90527ee35ef185571e1c327beac",
    'ETag: "33a64df551425fcc55e4d42a148795d9f25f89d4"', "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "X-Request-Id: 7f3a9c1e4b2d4f8e9a6c5d4e3f2a1b0c",
    "pod/api-7d4b9c6f5d-x2x8z 1/1 Running 0 3d4h", "id=01ARZ3NDEKTSV4RRFFQ69G5FAV next", "instance i-0abcd1234ef567890 in vpc-0a1b2c3d4e5f67890", "msg_01XFDUDYJgAACzvnptvVoYEL",
    "toolu_01A09q90qw90lq917835lq9W", "call_Xq3fYBZ2kVnR8mJw0LdT5sPa", "resp_67ccd2bed1ec8190b14f964abc0542670bb6a6b452d3795b", "thread_Kx7Rt2Wq9Lm4Zp8Vn3Bc6Ys1",
    "chatcmpl-9Xk2Rt7Wq4Lm8Zp3Vn6Bc1Ys5Hd0", "file-7Kx2Rt9Wq4Lm8Zp3Vn6Bc1Ys", "{6BF52A52-394A-11D3-B153-00C04F79FAA6}", "index 83db48f..bf269f4 100644", "snowflake 1234567890123456789 seen",
    "blk_-1608999687919862906 terminating", "SHA256:nThbg6kXUpJWGl7E1IGOCspRomTxdCARLviKw6E5SY8", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ci",
    '"integrity": "sha512-v2kDEe57lecTulaDIuNTPy3Ry4gLGJ6Z1O3vE1krgXZNrsQ+LFTGHVxVjcXPs17LhbZVGedAJv8XZ1tvj5FvSg=="', "github.com/pkg/errors v0.9.1 h1:FEBLx1zS214owpjy7qsBeixbURkuhQAwrK5UwLGTwt4=",
    "idna==3.7 --hash=sha256:82fee1fc78add43492d3a1898bfa6d8a904cc97d8427f683ed8e798d07761aa0", "978-3-16-148410-0", "EAN 4006381333931, parcel 1Z999AA10123456784", "10.1145/3292500.3330701",
    # Names of resources
    "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db-AbCdEf", "arn:aws:iam::123456789012:role/app-token-reader", '{"Bucket": "b", "Key": "uploads/2024/05/report.pdf"}',
    '{"key": "session-cache:eu-west:v3"}', 'cache_key = "user:profile:42:v3"', "s3://bucket/key/part-00000-5f2e1c3a-9b1d-4c8e-8f6a-1d2c3b4a5e6f-c000.snappy.parquet", '{"token": "branch:main"}',
    '{"auth": "oauth2"}', '{"x_key": "/var/lib/app/key.json"}', "GET /api/v1/tokens/refresh 200 12ms", "https://example.com/reset?lang=de&page=2", "?key=name&sort=asc&code=200&token=page",
    r"C:\Users\bob\AppData\Local\Temp\tmp1234", "projects/p1/secrets/db-password/versions/3", "vault kv get -field=password secret/db", "azkeyvault://prod/secrets/db-password",
    # Counts and code
    "max_tokens=4096 token_count: 1234567890 total_tokens=1523", "tokenizer: o200k_base", "--token-color-primary-500: #1a2b3c;", 'password = os.environ["DB_PASSWORD"]', "const token = await getToken(user)",
    "if (password !== confirmPassword) {", "token: string;", "password: z.string().min(8)", "api_key=settings.API_KEY", 'secret := os.Getenv("SECRET")', "String password = scanner.nextLine();",
    "password VARCHAR(255) NOT NULL", "self.auth = auth", 'headers["Authorization"] = f"Bearer {token}"', "Authorization: Bearer <token>", 'curl -H "Authorization: Bearer $TOKEN" https://x.example',
    "export TOKEN=$(cat token.txt)", "password: ${DB_PASSWORD}", "password: {{ .Values.db.password }}", 'password: <%= ENV["DB_PASSWORD"] %>', '{"password": "********"}', "password=***", "apiKey: YOUR_API_KEY_HERE",
    "SELECT password_hash FROM users WHERE id = 42", "PRIMARY KEY (id), FOREIGN KEY (user_id) REFERENCES users(id)", "at com.example.Auth.token(Auth.java:42)", "std::cout << a::b << std::endl",
    '{"password": {"type": "string", "format": "password", "minLength": 8}}', "def login(user: str, password: str | None = None) -> Token:", "password = getpass.getpass('Password: ')", "token = tokens[position]",
    "let key = keys.iter().next().unwrap();", 'private static final String TOKEN_HEADER = "X-Auth-Token";', "secrets: inherit", "uses: actions/checkout@v4\nwith:\n  token: ${{ secrets.GITHUB_TOKEN }}",
    # Shells
    "docker run -p 8080:80 -v /data:/data nginx:1.25", "ssh -p 2222 -i ~/.ssh/id_rsa bob@host uptime", "scp -P 2222 a.txt srv:/tmp", "mysql -h db -P 3306 -u root -p", "az vm list -g rg-prod -o table",
    "ssh-keygen -t ed25519 -C ci", "openssl req -x509 -newkey rsa:4096 -keyout key.pem -out cert.pem -days 365", "usage: cli [--token TOKEN] [--password PASSWORD]", "--api-key <key>  Your API key",
    "kubectl get secret db -o jsonpath='{.data.password}'", "gh auth login --with-token < token.txt", "curl -u $USER:$PASS https://x.example", "psql -U app -W -h db", "git push origin HEAD:refs/for/main",
    "mkdir -p build && cp -p a b", "tar -xzf a.tgz -C /opt --strip-components=1", "rsync -a -e 'ssh -p 2222' src/ dst/",
    # Sentences
    "The key is to listen first.", "token ring network 802.5", "pass the salt", "password must be at least 12 characters", "Forgot password? Click here", "Bearer authentication is required",
    "basic auth is disabled", "Secret Santa is on 12.12.2024", "Mot de passe oublié ?", "Passwort vergessen? Hier klicken", "contraseña incorrecta", "パスワードを忘れた場合", "密码长度至少为8个字符", "text 12 people and call 3 of them",
    "The password is required and the token is optional.", "Enter the code from the app", "The session key expires after 30 minutes", "an access token for the API", "See section 3.2.1.4 of the manual",
    # Logs, tables, versions
    "[GC (Allocation Failure) 524800K->1234K(2010112K), 0.0123456 secs]", "05-06 10:11:12.345  1234  5678 I ActivityManager: Start proc 9012:com.example/u0a123",
    "[12345.678901] usb 1-1: new high-speed USB device number 5 using xhci_hcd", "2024-05-06 10:11:12.345 UTC [1234] LOG:  duration: 12.345 ms", "lat=48.858370 lon=2.294481", "POINT(-122.4194155 37.7749295)",
    "401136:\t55\tpush   %rbp", "00000010: 4865 6c6c 6f20 576f 726c 6400", "M10.5 20.25 L30.125 40.0625 Z", "Error code: 0x80070005", '{"version": "1.128.1.0"}', "Chrome/124.0.6367.118 Safari/537.36", "nginx 1.2.3.4",
    "Bump to version 1.2.3.4", "1.234.567,89 EUR and Rp 1.234.567.890", "12 3456 7890\n23 4567 8901\n34 5678 9012", "eth0: 1500 bytes, 12:34:56.789 up", "step 1200/5000 loss=0.123456 lr=3.0e-04 1234567 tok/s",
    "| id | rows | ms |\n|---|---|---|\n| 1 | 1234567 | 12.5 |\n| 2 | 7654321 | 13.5 |", "PASS tests/login.test.ts (5.123 s)", "Tests: 1523 passed, 1523 total", "passed: 12, failed: 0, key: 7",
)  # fmt: skip


@pytest.mark.parametrize("name", GONE)
def test_reports_lose_what_is_private_and_nothing_else(name: str) -> None:
    """What is private is gone, what stands beside it is there."""
    assert fault(GONE[name]) is None


@pytest.mark.parametrize("text", STAY)
def test_nothing_is_found_in_what_is_not_private(text: str) -> None:
    """Paths, addresses of resources, ids, hashes, versions, times, code and sentences stay as they are."""
    assert fault(row(text, stay=None)) is None
